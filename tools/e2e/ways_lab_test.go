package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
	"sluice/tools/netlab/backend"
	"sluice/tools/netlab/decap"
)

// wayLab is a box with a daemon between a client and a backend, which has the box as its router:
// replies of all modes pass it. Its only service has one mode and one family. Packets in a tunnel
// fit the back of it.
//
//	client ── eth0 box eth1 ── switch ── backend
//	       ── eth2     (not a port)
type wayLab struct {
	*testing.T
	mode   string
	family int
	blind  bool // the service has no checks

	client, box, cable, backend *netlab.Host
	server                      *netlab.Process
	config, socket              string
}

// wayAddresses are the addresses of one family of the lab.
type wayAddresses struct {
	client, front, back, backend, vip, source string
	besides, aside                            string // client and box at another link between them
	bits                                      int
	all                                       string // the default route
}

var waysOf = map[int]wayAddresses{
	4: {"192.0.2.7", "192.0.2.1", "10.2.0.1", "10.2.0.13", "198.51.100.40", "10.9.0.1", "203.0.113.7", "203.0.113.1", 24, "0.0.0.0/0"},
	6: {"2001:db8:c::7", "2001:db8:c::1", "fd00:2::1", "fd00:2::13", "2001:db8:f::40", "fd00:9::1", "2001:db8:d::7", "2001:db8:d::1", 64, "::/0"},
}

// at returns the lab's addresses. In nat the service's is one of the client's network.
func (l *wayLab) at() wayAddresses {
	a := waysOf[l.family]
	if l.mode == "nat" {
		a.vip = strings.TrimSuffix(a.client, "7") + "40"
	}
	return a
}

// name returns the mode, the family, and whether there are checks.
func (l *wayLab) name() string {
	return fmt.Sprint(l.mode, l.family) + map[bool]string{true: "-unchecked"}[l.blind]
}

// oneWay reports whether replies pass the box's kernel, from the service's address.
func (l *wayLab) oneWay() bool { return l.mode == "tun" || l.mode == "dr" }

// whole returns an address with its full prefix length.
func whole(address string) string {
	a := netip.MustParseAddr(address)
	return netip.PrefixFrom(a, a.BitLen()).String()
}

func (l *wayLab) build() {
	t := l.T
	lab, err := netlab.New("ways-" + l.name())
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	for name, h := range map[string]**netlab.Host{"client": &l.client, "box": &l.box, "switch": &l.cable, "backend": &l.backend} {
		*h, err = lab.Host(name)
		must(t, err)
	}
	wide := netlab.LinkOptions{MTU: 1540}
	must(t, lab.Link(l.client, "eth0", l.box, "eth0", netlab.LinkOptions{}))
	must(t, lab.Link(l.cable, "box", l.box, "eth1", wide))
	must(t, lab.Link(l.cable, "backend", l.backend, "eth0", wide))
	must(t, lab.Link(l.client, "eth1", l.box, "eth2", netlab.LinkOptions{}))
	must(t, l.cable.Bridge("switch", "box", "backend"))
	a := l.at()
	on := func(address string) string { return fmt.Sprintf("%s/%d", address, a.bits) }
	must(t, l.client.Addr("eth0", on(a.client)))
	must(t, l.box.Addr("eth0", on(a.front)))
	must(t, l.box.Addr("eth1", on(a.back)))
	must(t, l.client.Addr("eth1", on(a.besides)))
	must(t, l.box.Addr("eth2", on(a.aside)))
	must(t, l.backend.Addr("eth0", on(a.backend)))
	must(t, l.client.Route(a.all, a.front))
	must(t, l.backend.Route(a.all, a.back))
	if l.mode == "nat" {
		must(t, l.box.Addr("eth0", whole(a.vip)))
	}
	if l.oneWay() {
		must(t, l.backend.AddLo(a.vip))
		must(t, l.box.Sysctl("net.ipv4.ip_forward", "1"))
		must(t, l.box.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	}
	if l.mode == "tun" {
		must(t, l.backend.Do(func() error {
			d, err := decap.Attach("eth0", netip.MustParseAddr(a.backend))
			if err == nil {
				lab.CloseLater(d)
			}
			return err
		}))
	}
	l.serve()
}

// open builds the lab and starts the daemon. As many labs do at a time as starting has space.
func (l *wayLab) open(dir string, starting chan struct{}) {
	starting <- struct{}{}
	defer func() { <-starting }()
	l.build()
	l.start(dir)
}

// port returns the port that the backend's server listens on.
func (l *wayLab) port() int {
	if l.oneWay() {
		return testbed.WebPort
	}
	return testbed.NATWebPort
}

// serve starts the backend's server.
func (l *wayLab) serve() {
	l.Helper()
	p, err := l.backend.Start(backend.Command(backend.Config{Name: "b1", HTTP: []string{net.JoinHostPort("", fmt.Sprint(l.port()))}}))
	must(l.T, err)
	_, err = p.WaitLine(ctxOf(l.T), backend.ReadyLine)
	must(l.T, err)
	l.server = p
}

// start starts the daemon. The end of the test stops it.
func (l *wayLab) start(dir string) {
	l.Helper()
	a := l.at()
	cfg := testbed.Config{
		Engine: testbed.Engine{Cores: cores(l.T, 1), Connections: 1 << 12},
		Ports:  []testbed.Port{{Name: "eth0"}, {Name: "eth1"}},
		Services: []testbed.Service{{
			Name: "web", Address: a.vip, Port: testbed.WebPort, Protocol: "tcp", Mode: l.mode, Scheduler: "rr",
			Health:   map[string]any{"type": "tcp", "interval": "1s", "timeout": "1s", "fall": 2, "rise": 1, "flap_hold": "0s"},
			Backends: []testbed.Server{{Address: a.backend, Port: l.port()}},
		}},
	}
	if l.blind {
		cfg.Services[0].Health = map[string]any{"type": "none"}
	}
	if l.mode == "fullnat" {
		cfg.Services[0].Source = []string{a.source}
	}
	l.config, l.socket = filepath.Join(dir, l.name()+".toml"), filepath.Join(dir, l.name()+".sock")
	cfg.API = testbed.API{Socket: l.socket}
	must(l.T, os.WriteFile(l.config, []byte(cfg.String()), 0o600))
	d, err := l.box.Start(exec.Command(sluice, "run", "--config", l.config))
	must(l.T, err)
	l.Cleanup(func() {
		if err := d.Stop(10 * time.Second); err != nil {
			l.Error(err)
		}
		if l.Failed() {
			l.Logf("the daemon said:\n%s", d.Output())
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), waysLimit)
	defer cancel()
	_, err = d.WaitLine(ctx, "ready")
	must(l.T, err)
}

// waysLimit bounds the waits of labs that run beside each other, each with a daemon and clients.
const waysLimit = 2 * time.Minute

// await calls f until it returns no error.
func (l *wayLab) await(what string, f func() error) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waysLimit)
	defer cancel()
	if err := testbed.Poll(ctx, f); err != nil {
		l.Fatalf("%s: %v", what, err)
	}
}

// on runs a command on a host and returns its output.
func (l *wayLab) on(h *netlab.Host, command string) (string, error) {
	var out strings.Builder
	cmd := exec.CommandContext(ctxOf(l.T), "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := h.Start(cmd)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", h.Name(), command, err, &out)
	}
	return out.String(), err
}

// clients make requests all the time, each on a connection of its own, until stop is called: a
// problem needs evidence.
func (l *wayLab) clients() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				_ = l.ask(ctx, l.at().vip, 4*time.Second)
				select {
				case <-ctx.Done():
				case <-time.After(200 * time.Millisecond):
				}
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// ask makes one request of the client.
func (l *wayLab) ask(ctx context.Context, vip string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := backend.Get(ctx, l.client.HTTPClient(), webURL(vip))
	return err
}

// upload makes the client send full packets.
func (l *wayLab) upload() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := backend.Upload(ctx, l.client.HTTPClient(), webURL(l.at().vip), 64<<10, 1)
	return err
}

func webURL(address string) string {
	return "http://" + net.JoinHostPort(address, fmt.Sprint(testbed.WebPort))
}

// about lists the checks of the doctor about the network; those of this machine's hardware may
// warn.
var about = map[string]bool{"config": true, "daemon": true, "ports": true, "vip": true, "routes": true, "neighbours": true, "rules": true,
	"replies": true, "hanging": true, "backends": true, "mtu": true, "rp_filter": true, "forwarding": true, "drops": true}

// troubles returns what the doctor finds wrong on a host: all problems, and the network's warnings.
func (l *wayLab) troubles(host *netlab.Host) (problems, warnings []finding, err error) {
	var stdout strings.Builder
	cmd := exec.CommandContext(ctxOf(l.T), sluice, "doctor", "--config", l.config, "-o", "json")
	cmd.Stdout = &stdout
	p, err := host.Start(cmd)
	if err != nil {
		return nil, nil, err
	}
	_ = p.Wait() // 1 if there is a problem
	var all []finding
	if err := json.Unmarshal([]byte(stdout.String()), &all); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", err, p.Output())
	}
	for _, f := range all {
		switch {
		case f.Severity == "problem":
			problems = append(problems, f)
		case f.Severity == "warning" && about[f.Check]:
			warnings = append(warnings, f)
		}
	}
	return problems, warnings, nil
}

// explain returns the marked lines of what explain says of a new connection of the client.
func (l *wayLab) explain(vip string) (marked []string, err error) {
	out, err := l.on(l.box, strings.Join([]string{sluice, "explain tcp", l.at().client, net.JoinHostPort(vip, "80"), "--socket", l.socket}, " "))
	for line := range strings.Lines(out) {
		if text, is := strings.CutPrefix(line, "! "); is {
			marked = append(marked, strings.TrimSpace(text))
		}
	}
	return marked, err
}
