package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// TestPortsInTimeWait: fullnat has few ports towards a backend that keeps the connections that it
// closes in TIME_WAIT. While at most half of the ports were used in the last minute, SYNs meet such
// a connection a few times per start of the daemon at most. Beyond that ports are reused, all
// connections work, and the reuse is counted. The daemon repeats SYNs that the backend refuses, and
// the clients notice nothing.
func TestPortsInTimeWait(t *testing.T) {
	const ports, starts, each = 400, 4, 45
	b := newBed(t, testbed.Options{Name: "e2e-timewait"})
	must(t, b.Balancer.Sysctl("net.ipv4.ip_local_port_range", fmt.Sprint(1024+ports, 65535)))
	// With timestamps the kernel accepts a SYN in TIME_WAIT from a client that it knows.
	must(t, b.Client.Sysctl("net.ipv4.tcp_timestamps", "0"))
	service := testbed.FullNATPaths[0].Web()
	service.Backends = service.Backends[:1]
	service.Backends[0].Port = 9300
	service.Timeouts = map[string]string{"tcp_time_wait": "1s", "tcp_fin_wait": "1s", "tcp_close_wait": "1s", "tcp_last_ack": "1s"}
	cfg := config(t)
	cfg.Services = []testbed.Service{service}
	closeFirst(t, b.Backends[0].Host, endpoint(service.Backends[0]))
	d := start(t, b, cfg)
	connect := func(n int) {
		t.Helper()
		for range n {
			c, err := b.Client.Dial(ctxOf(t), "tcp", service.Endpoint())
			must(t, err)
			must(t, c.SetDeadline(time.Now().Add(waitLimit)))
			_, err = io.ReadAll(c)
			must(t, err)
			must(t, c.Close())
		}
	}

	// The sum over all starts: each process counts from 0.
	repeated, before, began := uint64(0), resets(t, b.Client), time.Now()
	for i := range starts {
		if i > 0 {
			must(t, d.Stop())
			must(t, d.Restart(ctxOf(t)))
		}
		connect(each)
		s, err := d.API.Stats(ctxOf(t))
		if err != nil || s.PortReusedEarly != 0 {
			t.Errorf("%d ports were reused early: %v", s.PortReusedEarly, err)
		}
		repeated += s.Originated
	}
	refused := resets(t, b.Client) - before
	t.Logf("%d of %d SYNs were repeated, %d by clients, within %.1f s", repeated, starts*each, refused, time.Since(began).Seconds())
	// Those in TIME_WAIT refuse every other SYN. On a slow machine late FINs cause RSTs and RST
	// probes, too.
	if repeated > starts*each/4 || refused > starts*each/4 {
		t.Errorf("%d of %d SYNs were refused, with %d starts of the daemon", repeated, starts*each, starts)
	}

	before, began = resets(t, b.Client), time.Now()
	connect(ports + 50)
	s, err := d.API.Stats(ctxOf(t))
	must(t, err)
	refused = resets(t, b.Client) - before
	t.Logf("%d of %d SYNs were repeated, %d by clients, within %.1f s; %d ports were reused early", s.Originated, ports+50, refused, time.Since(began).Seconds(), s.PortReusedEarly)
	if time.Since(began) < 50*time.Second && (s.PortReusedEarly == 0 || s.Originated == 0) {
		t.Error("no port was reused early, or no SYN was repeated")
	}
	if refused > ports/2 { // the first, and what a slow machine causes
		t.Errorf("clients repeated SYNs of %d of %d connections", refused, ports+50)
	}
}

// closeFirst makes a host accept connections and close them at once.
func closeFirst(t *testing.T, host *netlab.Host, address string) {
	t.Helper()
	l, err := host.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			c.(*net.TCPConn).CloseWrite()
			go func() {
				_, _ = io.Copy(io.Discard, c) // the client's FIN comes after ours
				c.Close()
			}()
		}
	}()
}

// resets returns how many RSTs a host's kernel has sent. It answers by one to an ACK for a SYN that
// has met another connection.
func resets(t *testing.T, host *netlab.Host) (n int) {
	t.Helper()
	var text []byte
	must(t, host.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	}))
	var lines [][]string // names, then values
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Tcp:") {
			lines = append(lines, strings.Fields(line))
		}
	}
	for i, name := range lines[0] {
		if name == "OutRsts" {
			_, err := fmt.Sscan(lines[1][i], &n)
			must(t, err)
			return n
		}
	}
	t.Fatalf("no OutRsts in:\n%s", text)
	return 0
}
