package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"sluice/engine/cpu"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/backend"
	"sluice/tools/netlab/loadgen"
)

// waitLimit bounds every wait. Most take milliseconds, or seconds where TCP retransmits.
const waitLimit = 30 * time.Second

// sluice is the program under test, built by TestMain.
var sluice string

// shared is the testbed that most tests share; bed builds it.
var shared *testbed.Bed

func TestMain(m *testing.M) {
	backend.RunIfChild()
	loadgen.RunIfChild()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // all skip
	}
	dir, err := testbed.TempDir("program")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	sluice = filepath.Join(dir, "sluice")
	if err := testbed.Build(sluice); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	code := m.Run()
	if shared != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			code = 1
		}
	}
	return code
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and XDP need root")
	}
}

// bed returns the shared testbed. The ports of its balancer have one queue. A test that changes the
// testbed has to undo the change.
func bed(t *testing.T) *testbed.Bed {
	t.Helper()
	needRoot(t)
	if shared == nil {
		b, err := testbed.New(ctxOf(t), testbed.Options{Name: "e2e", Sluice: sluice})
		must(t, err)
		shared = b
	}
	return shared
}

// newBed returns a testbed for one test.
func newBed(t *testing.T, o testbed.Options) *testbed.Bed {
	t.Helper()
	needRoot(t)
	o.Sluice = sluice
	b, err := testbed.New(ctxOf(t), o)
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

// cores returns the last n CPUs that workers may use.
func cores(t *testing.T, n int) []int {
	t.Helper()
	allowed, err := cpu.Allowed()
	must(t, err)
	if len(allowed) < n {
		t.Skipf("%d workers need as many CPUs, and there are %d", n, len(allowed))
	}
	return allowed[len(allowed)-n:]
}

// config returns testbed's configuration with one worker.
func config(t *testing.T, paths ...testbed.Path) testbed.Config {
	t.Helper()
	return testbed.NewConfig(cores(t, 1)[0], paths...)
}

// start starts a daemon. The end of the test stops and checks it.
func start(t *testing.T, b *testbed.Bed, cfg testbed.Config) *testbed.Daemon {
	t.Helper()
	d, err := b.Start(ctxOf(t), cfg)
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	return d
}

// finish stops a daemon, unless the test has done so. The counters must add up before, and nothing
// may be left after.
func finish(t *testing.T, b *testbed.Bed, d *testbed.Daemon) {
	ctx := ctxOf(t)
	loaded, err := b.XDP()
	if err != nil {
		t.Error(err)
	}
	select {
	case <-d.Process.Ended():
		loaded = map[string]ebpf.ProgramID{}
	default:
		stats, err := d.Quiet(ctx)
		if err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the daemon's counters are %+v", stats)
		}
		if err := d.Stop(); err != nil {
			t.Error("the daemon ended with:", err)
		}
	}
	if err := errors.Join(b.AwaitNoXDP(ctx, loaded), b.EndConnections()); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the daemon said:\n%s", d.Process.Output())
	}
}

// poll calls f until it returns no error.
func poll(t *testing.T, what string, look func() error) {
	t.Helper()
	if err := testbed.Poll(ctxOf(t), look); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// wantSpread checks that all requests were answered.
func wantSpread(t *testing.T, s testbed.Spread, by [testbed.Backends]int) {
	t.Helper()
	if s.By != by || s.Refused > 0 || len(s.Errors) > 0 {
		t.Errorf("requests went %s, want %v: %v", &s, by, s.Turns)
	}
}

// drops returns the counters that are not zero.
func drops(ctx context.Context, d *testbed.Daemon) (map[string]uint64, error) {
	stats, err := d.API.Stats(ctx)
	for name, n := range stats.Drops {
		if n == 0 {
			delete(stats.Drops, name)
		}
	}
	return stats.Drops, err
}

// hold opens busy connections, one per round-robin turn, which end with the test. broken returns
// the error of one that broke.
func hold(t *testing.T, b *testbed.Bed, url string, n int) []*testbed.Held {
	t.Helper()
	var all []*testbed.Held
	for range n {
		h, err := b.Hold(context.Background(), url)
		must(t, err)
		t.Cleanup(func() { h.Close() })
		all = append(all, h)
	}
	return all
}

// holdAll is hold for each of these paths.
func holdAll(t *testing.T, b *testbed.Bed, paths []testbed.Path, n int) (all []*testbed.Held) {
	t.Helper()
	for _, p := range paths {
		all = append(all, hold(t, b, p.URL(), n)...)
	}
	return all
}

// moves checks that connections still carry requests.
func moves(t *testing.T, held ...*testbed.Held) {
	t.Helper()
	var errs []error
	for _, h := range held {
		errs = append(errs, h.Moves(ctxOf(t), 5))
	}
	must(t, errors.Join(errs...))
}
