package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sluice/cmd/cli"
	"sluice/tools/netlab"
	"sluice/tools/pktgen/labtest"
	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

// commandEnv makes the test binary run as pktgen.
const commandEnv = "PKTGEN_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandEnv) != "" {
		os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// call runs one command line in this process.
func call(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = execute(args, &out, &err)
	return code, out.String(), err.String()
}

func TestWrongCommandLines(t *testing.T) {
	run := []string{"run", "--tx", "a", "--rx", "b"}
	to := slices.Concat(run, []string{"--destination", "10.0.0.1:80"})
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "receive, replay, run, search, send"},
		{[]string{"dance"}, `unknown command "dance"`},
		{[]string{"send"}, "--destination is missing"},
		{[]string{"send", "--destination", "10.0.0.1:80"}, "--interface is missing"},
		{[]string{"run", "--tx", "a", "--destination", "10.0.0.1:80"}, "--rx is missing"},
		{run, "--destination is missing"},
		{slices.Concat(run, []string{"--destination", "10.0.0.1"}), "there is no port"},
		{slices.Concat(run, []string{"--destination", "[2001:db8::1]:80", "--source", "10.0.0.1"}), "different IP versions"},
		{slices.Concat(to, []string{"--rate", "fast"}), "250000, 250k or 1.5M, or max"},
		{slices.Concat(to, []string{"--size", "60"}), "64 to 1518"},
		{slices.Concat(to, []string{"--size", "big"}), "or imix"},
		{slices.Concat(to, []string{"--model", "bell"}), "round, uniform, zipf, syn, churn"},
		{slices.Concat(to, []string{"--flows", "0"}), "possible are 1 to"},
		{slices.Concat(to, []string{"--protocol", "sctp"}), "udp, tcp"},
		{slices.Concat(to, []string{"--backend", "dpdk"}), "auto, live, xsk, packet"},
		{slices.Concat(to, []string{"--receiver", "dpdk"}), "kernel, xsk"},
		{slices.Concat(to, []string{"--dmac", "hello"}), "02:00:00:00:00:01"},
		{slices.Concat(to, []string{"--duration", "-1s"}), "negative"},
		{slices.Concat(to, []string{"-o", "xml"}), "text, json"},
		{slices.Concat(to, []string{"more"}), "more"},
		{[]string{"search", "--tx", "a", "--rx", "b", "--destination", "10.0.0.1:80", "--resolution", "2"}, "resolution 2"},
		{[]string{"receive", "--interface", "a", "--flows", "0"}, "--flows 0"},
		{[]string{"receive", "--interface", "a", "--counting", "half"}, "stamped, plain, all"},
		{[]string{"replay", "--interface", "a"}, "accepts 1 arg"},
		{[]string{"replay", "--interface", "a", "--speed", "0", "f"}, "--speed 0"},
	} {
		code, stdout, stderr := call(c.args...)
		if code != cli.ExitUsage || stdout != "" || !strings.Contains(stderr, c.says) || !strings.Contains(stderr, "--help") {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want %d and %q", c.args, code, stdout, stderr, cli.ExitUsage, c.says)
		}
	}
}

// TestManual: a page for each command, and the first one lists them all.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := call("manual", dir); code != cli.ExitDone {
		t.Fatal(errs)
	}
	overview, err := os.ReadFile(filepath.Join(dir, "man", "man8", "pktgen.8"))
	labtest.Must(t, err)
	for _, verb := range []string{"send", "receive", "run", "search", "replay"} {
		if !bytes.Contains(overview, []byte("\\fBpktgen "+verb+" ")) {
			t.Errorf("pktgen.8 does not list %s:\n%s", verb, overview)
		}
		if _, err := os.Stat(filepath.Join(dir, "man", "man8", "pktgen-"+verb+".8")); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	labtest.NeedRoot(t)
	for says, args := range map[string][]string{
		"interface nosuch0":        {"send", "--interface", "nosuch0", "--destination", "10.0.0.1:80"},
		"network namespace nosuch": {"receive", "--interface", "lo", "--netns", "nosuch"},
		"no such file":             {"replay", "--interface", "lo", "none.pcap"},
	} {
		if code, _, stderr := call(args...); code != cli.ExitFailed || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit code %d, stderr %q, want %d and %q", args, code, stderr, cli.ExitFailed, says)
		}
	}
}

// decode reads the JSON of a command.
func decode(t *testing.T, stdout string, result any) {
	t.Helper()
	var d struct {
		Command string
		Result  json.RawMessage
	}
	labtest.Must(t, json.Unmarshal([]byte(stdout), &d))
	labtest.Must(t, json.Unmarshal(d.Result, result))
	if !strings.HasPrefix(d.Command, "pktgen ") {
		t.Errorf("command %q", d.Command)
	}
}

// ends returns the flags that name both ends of a pair.
func ends(p *labtest.Pair) []string {
	return []string{"--tx", "eth0", "--tx-netns", p.Sender.Namespace(), "--rx", "eth0", "--rx-netns", p.Sink.Namespace(), "--destination", "10.0.0.2:80"}
}

// TestRunBetweenNamespaces: run takes both namespaces, and draws a plot.
func TestRunBetweenNamespaces(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	plot := filepath.Join(t.TempDir(), "plot.svg")
	code, stdout, stderr := call(append(ends(pair), "run", "--count", "5000", "--rate", "100k", "--flows", "50", "--size", "imix", "-o", "json", "--plot", plot)...)
	if code != cli.ExitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r trial.Result
	decode(t, stdout, &r)
	if r.Sent != 5000 || r.Received+r.Refused != 5000 || r.Flows.Sent != 50 || r.Latency == nil || r.Sender != "live" || r.AskedPPS != 100_000 {
		t.Errorf("%+v", r)
	}
	if drawn, err := os.ReadFile(plot); err != nil || !bytes.HasPrefix(drawn, []byte("<svg")) ||
		!bytes.Contains(drawn, []byte(">pktgen run: udp, to 10.0.0.2:80, size imix, flows 50, rate 100k, 5000 frames, 10s<")) {
		t.Errorf("plot: %v, %s", err, drawn)
	}
	code, stdout, _ = call(append(ends(pair), "run", "--count", "5000", "-q", "--backend", "xsk", "--latency=false")...)
	if code != cli.ExitDone || !strings.Contains(stdout, "5,000 frames") || strings.Contains(stdout, "latency") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

func TestSearchBetweenNamespaces(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	plot := filepath.Join(t.TempDir(), "plot.svg")
	code, stdout, stderr := call(append(ends(pair), "search", "--highest", "20k", "--duration", "300ms", "--attempts", "5", "-o", "json", "--plot", plot)...)
	if code != cli.ExitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r search.Result
	decode(t, stdout, &r)
	if len(r.Trials) == 0 || r.Best == nil || r.ThroughputPPS <= 0 || r.ThroughputPPS > 21_000 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(stderr, "trial at 20.00 kpps") {
		t.Errorf("stderr %q", stderr)
	}
	drawn, err := os.ReadFile(plot)
	labtest.Must(t, err)
	for _, want := range []string{">passed<", ">result ", ">Latency by rate. Result: ", ">pktgen search: udp, to 10.0.0.2:80, size 64, flows 1, from 20k, 300ms, resolution 0.01, attempts 5<"} {
		if !bytes.Contains(drawn, []byte(want)) {
			t.Errorf("no %q in the plot:\n%s", want, drawn)
		}
	}
}

// command returns the test binary as pktgen, for a host of a lab.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), commandEnv+"=1")
	return cmd
}

// jsonOf returns the JSON in the output of a process.
func jsonOf(p *netlab.Process) string {
	_, after, _ := strings.Cut(p.Output(), "{")
	return "{" + after
}

// TestSendAndReceiveApart: each end is a process in a namespace of its own, as on two machines.
func TestSendAndReceiveApart(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), labtest.WaitLimit)
	defer cancel()
	receiver, err := pair.Sink.Start(command("receive", "--interface", "eth0", "--flows", "10", "--count", "3000", "--duration", "60s", "-q", "-o", "json"))
	labtest.Must(t, err)
	_, err = receiver.WaitLine(ctx, "ready")
	labtest.Must(t, err)
	dmac := pair.SinkAt.MAC
	sender, err := pair.Sender.Start(command("send", "--interface", "eth0", "--destination", "10.0.0.2:80", "--flows", "10", "--count", "3000", "--rate", "50k", "-q",
		"-o", "json", "--dmac", macText(dmac[:])))
	labtest.Must(t, err)
	labtest.Must(t, sender.Wait())
	labtest.Must(t, receiver.Wait())
	var sent, received trial.Result
	decode(t, jsonOf(sender), &sent)
	decode(t, jsonOf(receiver), &received)
	if sent.Sent != 3000 || received.Received != 3000 || received.Flows.Seen != 10 || received.Flows.WithLoss != 0 || received.Latency == nil {
		t.Errorf("sent %+v\nreceived %+v", sent, received)
	}
}

func macText(b []byte) string {
	const digits = "0123456789abcdef"
	var parts []string
	for _, x := range b {
		parts = append(parts, string([]byte{digits[x>>4], digits[x&15]}))
	}
	return strings.Join(parts, ":")
}

// TestInterruptEndsEarly: SIGINT ends a run with the results so far and exit code 0.
func TestInterruptEndsEarly(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), labtest.WaitLimit)
	defer cancel()
	for _, verb := range []string{"run", "search"} {
		p, err := pair.Sender.Start(command(append(ends(pair), verb, "--duration", "300s", "--rx-netns", pair.Sink.Namespace())...))
		labtest.Must(t, err)
		_, err = p.WaitLine(ctx, "1s  sent")
		labtest.Must(t, err)
		labtest.Must(t, p.Signal(syscall.SIGINT))
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", verb, err, p.Output())
		}
		if want := map[string]string{"run": "received", "search": "throughput"}[verb]; !strings.Contains(p.Output(), want) {
			t.Errorf("%s printed no result:\n%s", verb, p.Output())
		}
	}
}

func TestReplayCommand(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	args := []string{"replay", "--interface", "eth0", "--netns", pair.Sender.Namespace(), "--loops", "4", "-q", "-o", "json", "capture/testdata/mixed.pcapng"}
	for _, more := range [][]string{nil, {"--rate", "10k", "--backend", "packet", "--dmac", "02:00:00:00:00:09"}, {"--rate", "max"}} {
		code, stdout, stderr := call(append(args, more...)...)
		if code != cli.ExitDone {
			t.Fatalf("%q: exit code %d: %s", more, code, stderr)
		}
		var r trial.Result
		decode(t, stdout, &r)
		if r.Sent != 20 || r.SentBytes != 4*(14+60+61+1000+1514) {
			t.Errorf("%q: %+v", more, r)
		}
	}
}
