package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"sluice/cmd/cli"
)

// segment is a TCP frame with these flags.
func segment(t *testing.T, src string, sport int, dst string, dport int, syn, ack bool) []byte {
	t.Helper()
	ether := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), SYN: syn, ACK: ack}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ether, ip, tcp); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// recorded writes a pcap file of frames, one second apart, but for the last, which comes after ten
// minutes.
func recorded(t *testing.T, frames ...[]byte) (path string) {
	t.Helper()
	return recordedAt(t, func(i int) time.Duration {
		if i == len(frames)-1 {
			return time.Second + 10*time.Minute
		}
		return time.Second
	}, frames...)
}

// recordedAt is recorded with other times: gap returns the time between a frame and the one before.
func recordedAt(t *testing.T, gap func(i int) time.Duration, frames ...[]byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "in.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1700000000, 0)
	for i, frame := range frames {
		at = at.Add(gap(i))
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	config := offlineConfig(t)
	in := recorded(t,
		segment(t, "203.0.113.5", 4000, "198.51.100.10", 80, true, false),
		segment(t, "10.9.0.12", 8080, "203.0.113.5", 4000, true, true),
		segment(t, "203.0.113.5", 4000, "198.51.100.10", 80, false, true),
		segment(t, "203.0.113.6", 4000, "198.51.100.10", 80, false, true), // of no connection: RST
		segment(t, "203.0.113.6", 4001, "198.51.100.10", 80, true, false),
		segment(t, "10.9.0.11", 8080, "203.0.113.9", 4000, false, true),   // of no connection: RST
		segment(t, "203.0.113.5", 4000, "198.51.100.99", 80, true, false), // no service's
		segment(t, "203.0.113.6", 4001, "198.51.100.10", 80, false, true), // expired by then
	)
	out := filepath.Join(t.TempDir(), "out.pcapng")
	code, stdout, errs := sluice("simulate", "--config", config, in, "-w", out)
	want := `packets 8 = forwarded 4 + replied 3 + dropped 0 + passed to the kernel 1
  forwarded        1  web 10.9.0.11:8080
  forwarded        3  web 10.9.0.12:8080
`
	if diff := cmp.Diff(want, stdout); code != 0 || diff != "" {
		t.Fatal(code, errs, diff)
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	names, frames := captured(t, file)
	wantNames := []string{"front in", "back out", "back in", "front out", "front in", "back out", "front in", "front out, reply", "front in", "back out",
		"back in", "back out, reply", "front in, passed to the kernel", "front in", "front out, reply"}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Fatal(diff)
	}
	ends := func(frame []byte) string {
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		return p.NetworkLayer().NetworkFlow().String() + " " + p.TransportLayer().TransportFlow().String()
	}
	for i, want := range []string{"203.0.113.5->198.51.100.10 4000->80", "203.0.113.5->10.9.0.12 4000->8080",
		"10.9.0.12->203.0.113.5 8080->4000", "198.51.100.10->203.0.113.5 80->4000"} {
		if got := ends(frames[i]); got != want {
			t.Errorf("packet %d is %s, want %s", i, got, want)
		}
	}
	// What was written is a recording too, now of pcapng. Its packets as sent are not received
	// again.
	_, stdout, _ = sluice("simulate", "--config", config, out)
	if diff := cmp.Diff(want+"  7 packets are left out: sluice capture recorded them as sent\n", stdout); diff != "" {
		t.Error(diff)
	}
	_, stdout, _ = sluice("simulate", "--config", config, out, "-o", "json")
	var sum simulation
	if err := json.Unmarshal([]byte(stdout), &sum); err != nil || sum.Packets != 8 || sum.Copies != 7 {
		t.Error(err, stdout)
	}
	_, stdout, _ = sluice("simulate", "--config", config, "--trace", "--neighbours", "10.9.0.11", in)
	for _, line := range []string{" front in, worker 0: tcp 203.0.113.5:4000 > 198.51.100.10:80 [S] 40 bytes\n", "! verdict     dropped: no_neighbour: "} {
		if !strings.Contains(stdout, line) {
			t.Errorf("%q is not in\n%s", line, stdout)
		}
	}
}

// TestSimulateConnections checks that the table of a simulation has the size that the file gives.
func TestSimulateConnections(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(offlineConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	const flows = 3000
	for _, opens := range []bool{true, false} {
		for i := range flows {
			frames = append(frames, segment(t, fmt.Sprintf("203.0.113.%d", i%200), 4000+i, "198.51.100.10", 80, opens, !opens))
		}
	}
	in := recordedAt(t, func(int) time.Duration { return time.Millisecond }, frames...)
	var live []int
	for _, connections := range []int{1024, 100_000, 1 << 23} {
		config := writeFile(t, "c.toml", fmt.Sprintf("[engine]\nconnections = %d\n%s", connections, text))
		code, stdout, errs := sluice("simulate", "--config", config, in, "-o", "json")
		var sum simulation
		if err := json.Unmarshal([]byte(stdout), &sum); code != 0 || err != nil || sum.Packets != len(frames) {
			t.Fatal(code, err, errs, stdout)
		}
		if noted := strings.Contains(errs, "space for 4194304 connections, not for 8388608"); noted != (connections == 1<<23) {
			t.Errorf("%d connections: %s", connections, errs)
		}
		live = append(live, sum.Forwarded-flows)
	}
	// Half of the table is for connections that the backend has not answered.
	if diff := cmp.Diff([]int{1024 / 2, flows, flows}, live); diff != "" {
		t.Errorf("connections with an entry: %s", diff)
	}
}

func TestSimulateFailures(t *testing.T) {
	t.Parallel()
	config := offlineConfig(t)
	good := recorded(t, segment(t, "203.0.113.5", 4000, "198.51.100.10", 80, true, false))
	write := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{good}, cli.ExitUsage, "missing --config FILE"},
		{[]string{"--config", config}, cli.ExitUsage, "takes IN.pcap"},
		{[]string{"--config", config, good + ".none"}, cli.ExitFailed, "in.pcap.none"},
		{[]string{"--config", config, config}, cli.ExitFailed, "neither a pcap nor a pcapng file"},
		{[]string{"--config", config, write("empty", nil)}, cli.ExitFailed, "empty"},
		{[]string{"--config", config, write("cut", whole[:len(whole)-7])}, cli.ExitFailed, "damaged or cut off"},
		{[]string{"--config", config, write("ng", append([]byte{0x0a, 0x0d, 0x0d, 0x0a}, whole...))}, cli.ExitFailed, "pcapng"},
		{[]string{"--config", config, good, "-w", "/nowhere/out.pcapng"}, cli.ExitFailed, "/nowhere"},
		{[]string{"--config", config, good, "-w", "/dev/full"}, cli.ExitFailed, "no space left"},
	} {
		if code, _, errs := sluice(append([]string{"simulate"}, c.args...)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit code %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
}
