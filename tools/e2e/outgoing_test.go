package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
)

// TestBackendOpens: a nat backend of a service on all ports opens connections of its own through
// the balancer, its gateway, while the service works.
func TestBackendOpens(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is missing: apt-get install curl")
	}
	b := bed(t)
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(t, b.Balancer.Sysctl(key, "1"))
		t.Cleanup(func() { must(t, b.Balancer.Sysctl(key, "0")) })
	}
	cfg := config(t, testbed.Paths...)
	for _, p := range testbed.Paths {
		if p.Mode == "nat" {
			s := p.Web()
			s.Name, s.Port = "any-"+p.String(), "any"
			for i := range s.Backends {
				s.Backends[i].Port = 0
			}
			cfg.Services = append(cfg.Services, s)
		}
	}
	d := start(t, b, cfg)
	before, err := d.Quiet(ctxOf(t))
	must(t, err)
	page := bytes.Repeat([]byte("outside "), 1<<17)
	for _, p := range testbed.Paths {
		if p.Mode != "nat" {
			continue
		}
		listener, err := b.Client.Listen("tcp", netip.AddrPortFrom(p.Client(), 8088).String())
		must(t, err)
		server := &http.Server{
			Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) }),
			ReadHeaderTimeout: waitLimit,
		}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { server.Close() })
		for n := range 3 {
			var got []byte
			err := b.Backends[0].Host.Do(func() (err error) {
				got, err = exec.CommandContext(ctxOf(t), curl, "-sS", "-g", "--noproxy", "*", "--max-time", fmt.Sprint(int(waitLimit/time.Second)),
					"http://"+listener.Addr().String()).CombinedOutput()
				return err
			})
			if err != nil || !bytes.Equal(got, page) {
				t.Errorf("%s, request %d: curl at the backend got %d bytes, want %d: %v %.200s", p, n, len(got), len(page), err, got)
			}
		}
		if s := b.Ask(ctxOf(t), p.URL(), 3); s.Answered() != 3 {
			t.Errorf("%s: the service's requests went %s", p, &s)
		}
	}
	after, err := d.Quiet(ctxOf(t))
	must(t, err)
	if n := after.Dropped() - before.Dropped(); n != 0 {
		t.Errorf("%d packets were dropped: %v", n, after.Drops)
	}
}
