package e2e_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
)

// TestAdopt: connections in tun and dr by mh go on while the daemon is killed and started again
// without any state, at the backends that they have. Their addresses are on no interface of the
// balancer, so that its kernel does not answer while there is no daemon.
func TestAdopt(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-adopt"})
	cfg := config(t)
	for i, p := range []testbed.Path{{Mode: "tun", Family: 4, Backend: 4}, {Mode: "dr", Family: 4, Backend: 4},
		{Mode: "tun", Family: 6, Backend: 6}, {Mode: "dr", Family: 6, Backend: 6}} {
		vip := netip.AddrFrom4([4]byte{198, 51, 100, byte(80 + i)})
		if p.Family == 6 {
			vip = netip.MustParseAddr("2001:db8:f::80").Next()
			if p.Mode == "dr" {
				vip = vip.Next()
			}
		}
		for _, be := range b.Backends {
			must(t, be.Host.AddLo(vip.String()))
		}
		s := p.Web()
		s.Address, s.Scheduler, s.Hash = vip.String(), "mh", "address-port"
		cfg.Services = append(cfg.Services, s)
	}
	d := start(t, b, cfg)
	var all []*connection
	used := make(map[string]bool)
	for _, s := range cfg.Services {
		for range 10 {
			c, err := b.Client.Dial(ctxOf(t), "tcp", s.Endpoint())
			must(t, err)
			t.Cleanup(func() { must(t, c.Close()) })
			all = append(all, &connection{c, bufio.NewReader(c)})
			name, _, _ := strings.Cut(all[len(all)-1].ask(t), " ")
			used[name] = true
		}
	}
	if len(used) != len(b.Backends) {
		t.Fatalf("the connections have %d backends", len(used))
	}
	sent := resets(t, b.Client)
	for range 2 {
		loaded, err := b.XDP()
		must(t, err)
		must(t, d.Process.Kill())
		must(t, b.AwaitNoXDP(ctxOf(t), loaded))
		must(t, d.Restart(ctxOf(t)))
		for _, c := range all {
			c.ask(t)
		}
	}
	s, err := d.API.Stats(ctxOf(t))
	must(t, err)
	if s.Adopted < uint64(len(all)) || s.Replied != 0 {
		t.Errorf("%d of %d connections were adopted, and %d packets answered", s.Adopted, len(all), s.Replied)
	}
	if n := resets(t, b.Client) - sent; n != 0 {
		t.Errorf("the client sent %d resets", n)
	}
}

// connection is a TCP connection that stays open from request to request.
type connection struct {
	net.Conn
	in *bufio.Reader
}

// ask makes an HTTP request and returns the answer.
func (c *connection) ask(t *testing.T) string {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: e2e\r\n\r\n")
	must(t, err)
	r, err := http.ReadResponse(c.in, nil)
	must(t, err)
	text, err := io.ReadAll(r.Body)
	must(t, err)
	return string(text)
}
