package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"sluice/tools/e2e/testbed"
)

// finding is one of `sluice doctor -o json`.
type finding struct{ Check, Severity, Text, Fix string }

// examine runs the doctor on the balancer and returns its findings and its exit code.
func examine(t *testing.T, b *testbed.Bed, config string) ([]finding, int) {
	t.Helper()
	r, err := b.Run(ctxOf(t), "doctor", "--config", config, "-o", "json")
	must(t, err)
	var all []finding
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		t.Fatalf("%v:\n%s%s", err, r.Stdout, r.Stderr)
	}
	return all, r.Code
}

// lacks returns an error that lists the missing ones of the wanted findings, "severity check: part
// of the text".
func lacks(all []finding, want ...string) error {
	for _, w := range want {
		head, part, _ := strings.Cut(w, ": ")
		if !slices.ContainsFunc(all, func(f finding) bool {
			return f.Severity+" "+f.Check == head && strings.Contains(f.Text, part) && (f.Fix != "" || f.Severity == "ok")
		}) {
			return fmt.Errorf("nothing found that is %q in %+v", w, all)
		}
	}
	return nil
}

// TestDoctorFindsFaults: faults of a machine are found and named, and a machine that works has no
// problem.
func TestDoctorFindsFaults(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4, testbed.Paths[1])
	d := start(t, b, cfg)
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})
	all, code := examine(t, b, d.Config)
	for _, f := range all {
		if f.Severity == "problem" {
			t.Errorf("on a box that works: %+v", f)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d without a problem", code)
	}
	if err := lacks(all, "ok daemon: ", "ok neighbours: ", "ok routes: ", "note offloads: port eth0 is a veth",
		"warning mtu: packets of 1500 bytes need 1520"); err != nil {
		t.Error(err)
	}

	// Backends that do not exist, a service on the link without a host that answers ARP for it, a
	// strict filter, checks that fail.
	must(t, b.Balancer.Sysctl("net.ipv4.conf.eth1.rp_filter", "1"))
	t.Cleanup(func() { must(t, b.Balancer.Sysctl("net.ipv4.conf.eth1.rp_filter", "0")) })
	broken := cfg
	lost := cfg.Services[0]
	lost.Name, lost.Address, lost.Port = "lost", frontAddress(t, b, 200), 81
	lost.Backends = []testbed.Server{{Address: b.Backends[0].Addr(4).String(), Port: 9}, {Address: "10.2.0.99", Port: 80}}
	lost.Health = map[string]any{"type": "tcp", "interval": "100ms", "timeout": "50ms", "fall": 1}
	broken.Services = append(slices.Clone(cfg.Services), lost)
	must(t, d.Write(broken))
	_, err := d.Verb(ctxOf(t), "reload")
	must(t, err)
	poll(t, "the doctor finds it", func() error {
		all, code := examine(t, b, d.Config)
		if code != 1 {
			return fmt.Errorf("exit code %d", code)
		}
		return lacks(all, "problem neighbours: backend 10.2.0.99 (lost) does not answer ARP on eth1", "problem vip: "+lost.Address+" is in a network of port eth0",
			"note rp_filter: port eth1 filters strictly", "warning backends: backend "+b.Backends[0].Addr(4).String()+":9 of service lost has been down")
	})
}

// frontAddress returns an address of the network of the balancer's first port.
func frontAddress(t *testing.T, b *testbed.Bed, host byte) (address string) {
	t.Helper()
	must(t, b.Balancer.Do(func() error {
		port, err := netlink.LinkByName(testbed.Front)
		if err != nil {
			return err
		}
		all, err := netlink.AddrList(port, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		ip := all[0].IP.To4()
		address = fmt.Sprintf("%d.%d.%d.%d", ip[0], ip[1], ip[2], host)
		return nil
	}))
	return address
}

// TestDoctorBeforeTheStart: without a daemon the doctor reports what would keep one from starting.
func TestDoctorBeforeTheStart(t *testing.T) {
	b := bed(t)
	d, err := b.Start(ctxOf(t), config(t, nat4)) // for its file
	must(t, err)
	must(t, d.Stop())
	foreign := attachForeign(t, b, testbed.Back)
	all, code := examine(t, b, d.Config)
	if err := lacks(all, `problem occupant: port eth1 carries the XDP program "foreign"`, "note daemon: no daemon answers"); err != nil || code != 1 {
		t.Errorf("exit code %d: %v", code, err)
	}
	must(t, foreign.Close())
	must(t, d.Write(testbed.Config{Ports: []testbed.Port{{Name: "eth9"}}}))
	all, code = examine(t, b, d.Config)
	if err := lacks(all, "problem config: "); err != nil || code != 1 {
		t.Errorf("exit code %d: %v", code, err)
	}
}

// TestDoctorElsewhere checks that the doctor, run outside the daemon's network namespace, says so
// and reports nothing that is wrong there only.
func TestDoctorElsewhere(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, nat4, testbed.Paths[1]))
	out, err := exec.CommandContext(ctxOf(t), sluice, "doctor", "--config", d.Config, "-o", "json").Output()
	must(t, err)
	var all []finding
	must(t, json.Unmarshal(out, &all))
	for _, f := range all {
		if f.Severity == "problem" {
			t.Errorf("%+v", f)
		}
	}
	if err := lacks(all, "warning daemon: runs in another network namespace"); err != nil {
		t.Error(err)
	}
}

// TestDoctorReturnPath checks that the doctor names a nat backend that has no way back to a client
// which waits, and that the problem is gone as soon as the client is answered.
func TestDoctorReturnPath(t *testing.T) {
	b := bed(t)
	d := start(t, b, single(t, nat4))
	must(t, b.Backends[0].Host.Route("192.0.2.0/24", "10.2.0.254"))
	past := true
	home := func() {
		if past {
			must(t, b.Backends[0].Host.RouteDel("192.0.2.0/24", "10.2.0.254"))
		}
		past = false
	}
	t.Cleanup(home)
	asking, stop := context.WithCancel(ctxOf(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for asking.Err() == nil {
			each, cancel := context.WithTimeout(asking, 4*time.Second)
			if c, err := b.Client.Dial(each, "tcp", web(nat4)); err == nil {
				c.Close()
			}
			cancel()
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	poll(t, "the doctor finds it", func() error {
		all, _ := examine(t, b, d.Config)
		return lacks(all, "problem hanging: connections to backend 10.2.0.11:8080 of service web-nat4 wait for its SYN-ACK, one of them from 192.0.2.")
	})
	home()
	works(t, b, nat4)
	poll(t, "the doctor finds nothing more", func() error {
		all, _ := examine(t, b, d.Config)
		return lacks(all, "ok hanging: ")
	})
}

// attachForeign puts an XDP program that is not Sluice's on a port of the balancer.
func attachForeign(t *testing.T, b *testbed.Bed, port string) link.Link {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}) // XDP_PASS
	must(t, err)
	defer program.Close()
	var attached link.Link
	must(t, b.Balancer.Do(func() error {
		l, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: l.Attrs().Index})
		return err
	}))
	t.Cleanup(func() { attached.Close() })
	return attached
}
