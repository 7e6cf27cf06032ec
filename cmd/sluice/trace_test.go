package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/pcapgo"

	"sluice/cmd/cli"
	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// tracing is a daemon with packets to show.
type tracing struct {
	*apitest.Fake
	events []api.TraceEvent
	asked  api.TraceQuery
}

func (f *tracing) Trace(ctx context.Context, q api.TraceQuery, emit func(api.TraceEvent) error) (api.TraceEnd, error) {
	f.asked = q
	if q.Filter == "nonsense" {
		return api.TraceEnd{}, api.BadRequest(`filter "nonsense"`)
	}
	q.Started()
	for _, e := range f.events {
		if err := emit(e); err != nil {
			return api.TraceEnd{}, err
		}
	}
	if q.Filter == "failing" {
		return api.TraceEnd{}, errors.New("a worker has ended")
	}
	if q.Filter == "endless" {
		<-ctx.Done()
		return api.TraceEnd{}, ctx.Err()
	}
	return api.TraceEnd{Seen: len(f.events), Lost: 3, Why: "time is over"}, nil
}

func newTracing() *tracing {
	in, out := bytes.Repeat([]byte("in"), 30), bytes.Repeat([]byte("out"), 20)
	at := time.Unix(1700000000, 123456000)
	return &tracing{Fake: apitest.NewFake(), events: []api.TraceEvent{
		{Time: at, Port: "eth0", Packet: "tcp in", Length: len(in), Service: "web", Verdict: "forward", Text: "forwarded",
			Steps: []api.Step{{Stage: "service", Text: "web"}}, OutPort: "eth1", OutPacket: "tcp out", OutLength: len(out), In: in, Out: out},
		{Time: at.Add(time.Second), Port: "eth1", Packet: "udp in", Length: 1400, Verdict: "drop", Reason: "no_route", Text: "dropped: no_route", In: in},
		{Time: at.Add(2 * time.Second), Port: "eth0", Verdict: "reply", OutPort: "eth0", In: in, Out: out, OutLength: len(out)},
	}}
}

func TestTrace(t *testing.T) {
	daemon := newTracing()
	socket := serve(t, daemon)
	code, out, errs := sluice("trace", "--socket", socket, "--count", "5", "--duration", "7s", "host", "192.0.2.7")
	want := daemon.events[0].Time.Local().Format("15:04:05.000000") + ` eth0 in, worker 0: tcp in
  service     web
= verdict     forwarded
`
	if !strings.HasPrefix(out, want) || !strings.Contains(out, "\n! verdict     dropped: no_route\n") {
		t.Error(code, cmp.Diff(want, out))
	}
	if errs != "sluice: tracing; ^C ends it\nsluice: time is over: 3 packets, and 3 more that arrived too fast to be printed: narrow the filter\n" {
		t.Error(errs)
	}
	if q := daemon.asked; q.Filter != "host 192.0.2.7" || q.Count != 5 || q.Duration != 7*time.Second || q.Frames {
		t.Errorf("asked for %+v", q)
	}
	_, out, _ = sluice("trace", "-o", "json", "--socket", socket)
	decoder := json.NewDecoder(strings.NewReader(out))
	for i := range daemon.events {
		var e api.TraceEvent
		if err := decoder.Decode(&e); err != nil || e.Verdict != daemon.events[i].Verdict || !e.Time.Equal(daemon.events[i].Time) {
			t.Error(err, e)
		}
	}
}

func TestTraceFailures(t *testing.T) {
	socket := serve(t, newTracing())
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"trace", "nonsense", "--socket", socket}, cli.ExitFailed, `filter "nonsense"`},
		{[]string{"trace", "failing", "--socket", socket}, cli.ExitFailed, "a worker has ended"},
		{[]string{"trace", "--count", "-1", "--socket", socket}, cli.ExitUsage, "count -1"},
		{[]string{"trace", "--duration", "3h", "--socket", socket}, cli.ExitUsage, "from 0 to 1h"},
		{[]string{"trace", "--socket", socket + ".none"}, cli.ExitFailed, "no sluice answers"},
		{[]string{"capture", "--socket", socket}, cli.ExitUsage, "say where to write"},
		{[]string{"capture", "-w", "/nowhere/x.pcapng", "--socket", socket}, cli.ExitFailed, "/nowhere/x.pcapng"},
		{[]string{"capture", "-w", "-", "--max-bytes", "0", "--socket", socket}, cli.ExitUsage, "--max-bytes"},
	} {
		if code, _, errs := sluice(c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit code %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
}

// TestCaptureFile: what capture says in JSON, and that a capture which can't begin leaves a former
// one alone.
func TestCaptureFile(t *testing.T) {
	socket, path := serve(t, newTracing()), filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, []byte("a former capture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{socket + ".none", socket} {
		if code, _, _ := sluice("capture", "-w", path, "--socket", wrong, "nonsense"); code != cli.ExitFailed {
			t.Errorf("exit code %d", code)
		}
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != "a former capture" {
		t.Errorf("%q, %v", now, err)
	}
	code, out, errs := sluice("capture", "-w", path, "--socket", socket, "-o", "json")
	var end captureEnd
	if err := json.Unmarshal([]byte(out), &end); code != cli.ExitDone || err != nil || end.File != path || end.Seen != 3 || end.Lost != 3 {
		t.Errorf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	captured(t, file)
}

// TestTraceEndsWithTheServer: a stream doesn't hold up a daemon that stops.
func TestTraceEndsWithTheServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	_, stop := apitest.At(t, socket, newTracing())
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		_, err := api.NewClient(socket).Trace(context.Background(), api.TraceQuery{Filter: "endless", Started: func() { close(started) }},
			func(api.TraceEvent) error { return nil })
		ended <- err
	}()
	<-started
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the daemon is stopping") {
		t.Error(err)
	}
}

// captured reads a pcapng file: the interface's name and the bytes of each packet.
func captured(t *testing.T, file io.Reader) (names []string, frames [][]byte) {
	t.Helper()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return names, frames
		}
		if err != nil {
			t.Fatal(err)
		}
		of, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		names, frames = append(names, of.Name), append(frames, data)
	}
}

func TestCapture(t *testing.T) {
	daemon := newTracing()
	socket := serve(t, daemon)
	path := filepath.Join(t.TempDir(), "out.pcapng")
	if code, _, errs := sluice("capture", "-w", path, "--socket", socket, "--snaplen", "96", "tcp"); code != 0 {
		t.Fatal(errs)
	}
	if q := daemon.asked; !q.Frames || q.Snaplen != 96 || q.Filter != "tcp" {
		t.Errorf("asked for %+v", q)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	names, frames := captured(t, file)
	want := []string{"eth0 in", "eth1 out", "eth1 in, dropped: no_route", "eth0 in", "eth0 out, reply"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatal(diff)
	}
	for i, e := range [][]byte{daemon.events[0].In, daemon.events[0].Out, daemon.events[1].In, daemon.events[2].In, daemon.events[2].Out} {
		if !bytes.Equal(frames[i], e) {
			t.Errorf("packet %d is not what was seen", i)
		}
	}
	_, out, _ := sluice("capture", "-w", "-", "--max-bytes", "900", "--socket", socket)
	if names, _ := captured(t, strings.NewReader(out)); len(names) != 2 {
		t.Errorf("900 bytes hold %q", names)
	}
	// A new one: the last capture ended before its daemon had sent everything.
	silent := newTracing()
	silent.events = nil
	_, out, _ = sluice("capture", "-w", "-", "--socket", serve(t, silent))
	if names, _ := captured(t, strings.NewReader(out)); len(names) != 0 {
		t.Errorf("no packets: %q", names)
	}
}
