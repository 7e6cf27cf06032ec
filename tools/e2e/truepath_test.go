package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/decap"
)

// probed returns a configuration with frequent checks of the HTTP and UDP services of some paths.
func probed(t *testing.T, paths ...testbed.Path) testbed.Config {
	cfg := config(t, paths...)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Health = map[string]any{"type": "http", "path": "/healthz", "interval": "50ms", "timeout": "500ms", "fall": 2, "rise": 2, "flap_hold": "0s"}
		if s.Protocol == "udp" {
			s.Health["type"] = "udp"
			s.Health["send"] = "anybody there?"
			s.Health["expect"] = "name="
			delete(s.Health, "path")
		}
	}
	return cfg
}

// secondBackends returns the second backend of each service; the others must be up.
func secondBackends(ctx context.Context, d *testbed.Daemon) (map[string]api.Backend, error) {
	services, err := d.API.List(ctx)
	out := map[string]api.Backend{}
	for _, s := range services {
		for i, b := range s.Backends {
			if i == 1 {
				out[s.Name] = b
			} else if b.State != api.StateUp {
				return nil, fmt.Errorf("%s: %s is %s: %s", s.Name, b.Address, b.State, b.LastError)
			}
		}
	}
	return out, err
}

// awaitSecond waits until the second backend is down in exactly the services for which down returns
// true, all others are up, and the last error of those contains why.
func awaitSecond(t *testing.T, d *testbed.Daemon, why string, down func(service string) bool) {
	t.Helper()
	poll(t, "states of the second backends", func() error {
		backends, err := secondBackends(ctxOf(t), d)
		if err != nil {
			return err
		}
		for name, b := range backends {
			// Hosts limit the rate of ICMP errors for UDP.
			said := strings.Contains(b.LastError, why) || why == refused && strings.HasPrefix(name, "udp")
			if (b.State == api.StateDown) != down(name) || down(name) && !said {
				return fmt.Errorf("%s: %s is %s: %q", name, b.Address, b.State, b.LastError)
			}
		}
		return nil
	})
}

var tun6, tun4in6 = testbed.Paths[4], testbed.Paths[6]

const refused = "connection refused"

func none(string) bool { return false }

// TestTruePath: checks of tun and dr backends go to the service's address on the way of the
// clients' packets.
func TestTruePath(t *testing.T) {
	var paths []testbed.Path
	for _, p := range testbed.Paths {
		if p.Mode != "nat" {
			paths = append(paths, p)
		}
	}
	b := newBed(t, testbed.Options{Name: "e2e-path"})
	d := start(t, b, probed(t, paths...))
	b2 := b.Backends[1]
	awaitSecond(t, d, "", none)
	held := hold(t, b, paths[0].URL(), 1)
	moves(t, held...)
	t.Log("held", held[0].Backend)

	t.Run("address missing", func(t *testing.T) {
		for _, p := range paths {
			must(t, b2.Host.Do(func() error { return loAddress(netlink.AddrDel, p.Address()) }))
		}
		awaitSecond(t, d, "address", func(string) bool { return true })
		for _, p := range paths {
			wantSpread(t, b.Ask(ctxOf(t), p.URL(), 4), [3]int{2, 0, 2})
		}
		for _, p := range paths {
			must(t, b2.Host.AddLo(p.Address().String()))
		}
		awaitSecond(t, d, "", none)
		moves(t, held...)
	})
	t.Run("decapsulator missing", func(t *testing.T) {
		must(t, b2.Decap.Close())
		awaitSecond(t, d, "unwrap", func(service string) bool { return strings.Contains(service, "tun") })
		var err error
		must(t, b2.Host.Do(func() error {
			b2.Decap, err = decap.Attach("eth0", b2.Addr(4), b2.Addr(6))
			return err
		}))
		b.Lab.CloseLater(b2.Decap)
		awaitSecond(t, d, "", none)
		moves(t, held...)
	})
	t.Run("server dead", func(t *testing.T) {
		must(t, b2.Kill())
		awaitSecond(t, d, refused, func(string) bool { return true })
		must(t, b2.Start(ctxOf(t)))
		awaitSecond(t, d, "", none)
		moves(t, held...)
	})
	t.Run("address not the balancer's", func(t *testing.T) {
		for _, p := range paths {
			must(t, b.Balancer.Do(func() error { return loAddress(netlink.AddrDel, p.Address()) }))
		}
		must(t, b2.Kill())
		awaitSecond(t, d, refused, func(string) bool { return true })
		must(t, b2.Start(ctxOf(t)))
		awaitSecond(t, d, "", none)
		moves(t, held...)
	})
}

// loAddress adds or removes an address of the loopback interface.
func loAddress(do func(netlink.Link, *netlink.Addr) error, a netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return do(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}})
}

// TestTruePathGeneric: with one port, in generic mode, probes are sent and answers received like
// other packets.
func TestTruePathGeneric(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-path-arm"})
	must(t, b.OneArm())
	cfg := probed(t, dr4, tun6, tun4in6)
	cfg.Ports = []testbed.Port{{Name: testbed.Back, IO: api.IOGeneric}}
	d := start(t, b, cfg)
	must(t, b.Backends[1].Kill())
	awaitSecond(t, d, refused, func(string) bool { return true })
	must(t, b.Backends[1].Start(ctxOf(t)))
	awaitSecond(t, d, "", none)
}

// TestTruePathForwarder: a backend without the address, which forwards packets for it to the host
// that has it, is down.
func TestTruePathForwarder(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-path-fwd"})
	d := start(t, b, probed(t, dr4, tun6))
	b2 := b.Backends[1]
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		must(t, b2.Host.Sysctl(key, "1"))
	}
	for _, p := range []testbed.Path{dr4, tun6} {
		must(t, b2.Host.Do(func() error { return loAddress(netlink.AddrDel, p.Address()) }))
	}
	awaitSecond(t, d, "address", func(string) bool { return true })
}

// TestTruePathDevice: the device ends with the daemon, however that ends. A device that is removed
// is replaced.
func TestTruePathDevice(t *testing.T) {
	const device = "sluice-probe0"
	b := newBed(t, testbed.Options{Name: "e2e-path-dev"})
	d := start(t, b, probed(t, dr4))
	awaitSecond(t, d, "", none)
	must(t, b.Balancer.LinkDel(device))
	_, err := d.Process.WaitLine(ctxOf(t), "making another")
	must(t, err)
	must(t, b.Backends[1].Kill())
	awaitSecond(t, d, refused, func(string) bool { return true })
	must(t, b.Backends[1].Start(ctxOf(t)))
	awaitSecond(t, d, "", none)

	// One service more, and one less.
	cfg := probed(t, tun6)
	must(t, d.Write(cfg))
	_, err = d.Verb(ctxOf(t), "reload", "--force")
	must(t, err)
	must(t, b.Backends[1].Kill())
	awaitSecond(t, d, refused, func(string) bool { return true })
	must(t, b.Backends[1].Start(ctxOf(t)))

	must(t, d.Process.Kill())
	poll(t, "device of the dead", func() error {
		return b.Balancer.Do(func() error {
			if _, err := netlink.LinkByName(device); err == nil {
				return errors.New("it is still there")
			}
			return nil
		})
	})
	must(t, d.Restart(ctxOf(t)))
	awaitSecond(t, d, "", none)
}

// TestNoTruePath: if devices cannot be created, alarms tell why, checks go to the backends' own
// addresses, and what nat backends send of their own accord is dropped.
func TestNoTruePath(t *testing.T) {
	needRoot(t)
	// A program that runs the daemon without /dev/net/tun.
	program := filepath.Join(t.TempDir(), "sluice")
	script := fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs none /dev/net && exec %s \"$@\"' - \"$@\"\n", sluice)
	must(t, os.WriteFile(program, []byte(script), 0o700))
	b, err := testbed.New(ctxOf(t), testbed.Options{Name: "e2e-path-none", Sluice: program})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	cfg := probed(t, dr4)
	cfg.Services = append(cfg.Services, nat4.Datagrams()) // without checks
	d := start(t, b, cfg)
	poll(t, "alarms", func() error {
		alarms, err := d.API.Alarms(ctxOf(t))
		if err == nil && (len(alarms) != 2 || alarms[0].Kind != api.AlarmDirect || alarms[1].Kind != api.AlarmToKernel ||
			!strings.Contains(alarms[0].Text, "/dev/net/tun") || !strings.Contains(alarms[1].Text, "/dev/net/tun")) {
			err = fmt.Errorf("%+v", alarms)
		}
		return err
	})
	must(t, b.Backends[1].Kill())
	awaitSecond(t, d, "by its own address, not by dr", func(service string) bool { return strings.HasSuffix(service, dr4.String()) })
	must(t, b.Backends[1].Start(ctxOf(t)))
	awaitSecond(t, d, "", none)
}
