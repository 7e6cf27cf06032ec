package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"sluice/engine/cpu"
	"sluice/tools/e2e/testbed"
)

// lab is the name of the demonstration's namespaces.
const lab = "demo"

// Traffic of each path.
const (
	requests  = 60
	datagrams = 30
	megabytes = 32
)

// demo is one run. wrong collects failed checks while the run continues.
type demo struct {
	started time.Time
	sluice  string
	bed     *testbed.Bed
	daemon  *testbed.Daemon
	loaded  map[string]ebpf.ProgramID // the XDP programs while the daemon ran
	rows    []row
	wrong   []string
}

func (d *demo) failed() bool { return len(d.wrong) > 0 }

// run shows everything. Its error is the reason why it could not continue.
func (d *demo) run(ctx context.Context) (err error) {
	d.introduce()
	if d.sluice, err = filepath.Abs(d.sluice); err != nil {
		return err
	}
	d.step("building the testbed: 6 namespaces, 6 cables, a switch; leftovers of killed runs are removed first")
	if d.bed, err = testbed.New(ctx, testbed.Options{Name: lab, Sluice: d.sluice}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.leave()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	for _, p := range testbed.AllPaths {
		if err := d.carry(ctx, p); err != nil {
			return err
		}
	}
	for _, scene := range []func(context.Context) error{d.drain, d.kill, d.survive, d.account, d.stop} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) introduce() {
	fmt.Print(`Sluice balances real TCP and UDP on this machine, between namespaces that exist only now:

  client ─── router ─── eth0 balancer eth1 ──┐
                │                            │
                └────────── switch ──────────┴── b1, b2, b3

A request goes from the client by the router to the balancer, and from there to a backend. How the answer
goes back is what the modes differ in:
  nat      Sluice rewrites the destination; the answer comes back through Sluice, which undoes it
  fullnat  Sluice rewrites the source too, to an address of its own; so the answer comes back by itself
  tun      Sluice puts the packet into an IP tunnel; the backend answers past the balancer, by the router
  dr       Sluice changes only the MAC address; the backend answers past the balancer, too
In every mode but fullnat the backend sees the client's own address.

`)
}

// start starts the daemon and prints the AF_XDP mode of its ports.
func (d *demo) start(ctx context.Context) error {
	allowed, err := cpu.Allowed()
	if err != nil {
		return err
	}
	cfg := testbed.NewConfig(allowed[len(allowed)-1], testbed.AllPaths...)
	d.step("starting sluice keep -- run with %d services of %d backends each, one worker", len(cfg.Services), testbed.Backends)
	if d.daemon, err = d.bed.Keep(ctx, cfg); err != nil {
		return err
	}
	if d.loaded, err = d.bed.XDP(); err != nil {
		return err
	}
	stats, err := d.daemon.API.Stats(ctx)
	if err != nil {
		return err
	}
	for _, p := range stats.Ports {
		d.result("port %s: AF_XDP in %s mode, XDP program %d", p.Name, p.IO, d.loaded[p.Name])
		d.check(d.loaded[p.Name] != 0, "port %s has no XDP program", p.Name)
	}
	return nil
}

// leave cleans up in any case, and checks that nothing is left.
func (d *demo) leave() error {
	err := d.bed.Close()
	namespaces, nsErr := testbed.Namespaces(lab)
	processes, childErr := testbed.Children()
	d.step("removing the testbed: %d namespaces and %d processes are left", len(namespaces), len(processes))
	d.check(len(namespaces)+len(processes) == 0, "something is left: namespaces %v, processes %v", namespaces, processes)
	return errors.Join(err, nsErr, childErr)
}

// step prints what is done next, with the seconds since the start.
func (d *demo) step(format string, args ...any) {
	fmt.Printf("%5.1f  %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

// result adds a result to a step.
func (d *demo) result(format string, args ...any) {
	fmt.Printf("       - %s\n", fmt.Sprintf(format, args...))
}

// check records and prints a failed check.
func (d *demo) check(right bool, format string, args ...any) bool {
	if !right {
		d.wrong = append(d.wrong, fmt.Sprintf(format, args...))
		fmt.Printf("       WRONG: %s\n", d.wrong[len(d.wrong)-1])
	}
	return right
}
