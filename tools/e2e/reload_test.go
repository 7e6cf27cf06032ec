package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

var nat4, dr4 = testbed.Paths[0], testbed.Paths[2]

// TestReload: backends and services come and go under traffic; the connections of those that stay
// continue.
func TestReload(t *testing.T) {
	b := bed(t)
	ctx := ctxOf(t)
	two := config(t, nat4)
	two.Services[0].Backends = two.Services[0].Backends[:2]
	d := start(t, b, two)
	held := hold(t, b, nat4.URL(), 4)
	reload := func(cfg testbed.Config) {
		t.Helper()
		must(t, d.Write(cfg))
		_, err := d.Verb(ctx, "reload", "--force")
		must(t, err)
	}

	t.Log("b3 and another service come")
	reload(config(t, nat4, dr4))
	wantSpread(t, b.Ask(ctx, nat4.URL(), 30), [3]int{10, 10, 10})
	wantSpread(t, b.Ask(ctx, dr4.URL(), 30), [3]int{10, 10, 10})
	moves(t, held...)

	t.Log("the same file once more")
	held = append(held, hold(t, b, nat4.URL(), 3)...)
	reload(config(t, nat4, dr4))
	moves(t, held...)

	t.Log("b1 and the other service go")
	rest := config(t, nat4)
	rest.Services[0].Backends = rest.Services[0].Backends[1:]
	reload(rest)
	wantSpread(t, b.Ask(ctx, nat4.URL(), 30), [3]int{0, 15, 15})
	if s := b.Ask(ctx, dr4.URL(), 3); s.Refused != 3 {
		t.Errorf("requests to a service that is gone went %s; the balancer's kernel should refuse them", &s)
	}
	moves(t, held...)

	t.Log("b1 comes back to its connections, by SIGHUP")
	must(t, d.Write(config(t, nat4)))
	mark := d.Process.Mark()
	must(t, d.Process.Signal(syscall.SIGHUP))
	_, err := d.Process.WaitLineAfter(ctx, mark, "reloaded")
	must(t, err)
	wantSpread(t, b.Ask(ctx, nat4.URL(), 30), [3]int{10, 10, 10})
	moves(t, held...)
}

// TestFormerSources: connections go on when their source address leaves the list of fullnat, and
// when their service gets another mode.
func TestFormerSources(t *testing.T) {
	b := bed(t)
	ctx := ctxOf(t)
	path := testbed.FullNATPaths[0]
	both := config(t, path)
	// The backends reach the second source by their default route.
	both.Services[0].Source = append(both.Services[0].Source, "10.3.0.1")
	d := start(t, b, both)
	held := hold(t, b, path.URL(), 12)
	moves(t, held...)
	one, other := config(t, path), config(t, path)
	other.Services[0].Source, other.Services[0].Mode = nil, "nat"
	for _, cfg := range []testbed.Config{one, other} {
		must(t, d.Write(cfg))
		plan, err := d.Verb(ctx, "plan")
		must(t, err)
		if !strings.Contains(plan, "\n0 of 12 connections would lose their backend") {
			t.Errorf("plan says\n%s", plan)
		}
		_, err = d.Verb(ctx, "reload")
		must(t, err)
		moves(t, held...)
	}
	wantSpread(t, b.Ask(ctx, path.URL(), 30), [3]int{10, 10, 10})
}

// TestReloadStorm: services come and go all the time, and those that stay lose no request.
func TestReloadStorm(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, nat4))
	held := hold(t, b, nat4.URL(), 3)
	asked := make(chan testbed.Spread)
	go func() { asked <- b.Ask(ctxOf(t), nat4.URL(), 300) }()
	reloads := 0
	for done := false; !done; reloads++ {
		must(t, d.Write(config(t, [][]testbed.Path{{nat4, dr4}, {nat4}}[reloads%2]...)))
		_, err := d.API.Reload(ctxOf(t), api.ReloadOptions{Force: true})
		must(t, err)
		select {
		case s := <-asked:
			wantSpread(t, s, [3]int{100, 100, 100})
			done = true
		default:
		}
	}
	t.Logf("%d reloads", reloads)
	moves(t, held...)
}

// TestBadReload: a wrong file changes nothing, and its errors are reported.
func TestBadReload(t *testing.T) {
	b := bed(t)
	ctx := ctxOf(t)
	d := start(t, b, config(t, nat4))
	held := hold(t, b, nat4.URL(), 3)
	before := shape(ctx, t, d)
	mode := config(t, nat4)
	mode.Services[0].Mode = "teleport"
	empty := config(t, nat4)
	empty.Services = nil
	for name, text := range map[string]string{
		"no TOML":     "[[service",
		"unknown key": config(t, nat4).String() + "\ncolour = 3\n",
		"wrong mode":  mode.String(),
		"no service":  empty.String(),
		"empty":       "",
	} {
		must(t, os.WriteFile(d.Config, []byte(text), 0o600))
		r, err := b.Run(ctx, "reload", "--socket", d.Socket)
		must(t, err)
		if r.Code != 1 || !strings.Contains(r.Stderr, d.Config) {
			t.Errorf("%s: reload: exit status %d, want 1 and the name of the file: %s", name, r.Code, r.Stderr)
		}
		mark := d.Process.Mark()
		must(t, d.Process.Signal(syscall.SIGHUP))
		_, err = d.Process.WaitLineAfter(ctx, mark, "nothing changed")
		must(t, err)
		if after := shape(ctx, t, d); after != before {
			t.Errorf("%s: before:\n%s\nafter:\n%s", name, before, after)
		}
	}
	wantSpread(t, b.Ask(ctx, nat4.URL(), 30), [3]int{10, 10, 10})
	moves(t, held...)
}

// shape returns a daemon's services without their counters.
func shape(ctx context.Context, t *testing.T, d *testbed.Daemon) (text string) {
	t.Helper()
	services, err := d.API.List(ctx)
	must(t, err)
	for _, s := range services {
		text += fmt.Sprintln(s.Name, s.Key(), s.Mode, s.Scheduler, backends(s))
	}
	return text
}

func backends(s api.Service) (all []string) {
	for _, b := range s.Backends {
		all = append(all, fmt.Sprint(b.Endpoint(), " ", b.Weight, " ", b.Mode, " ", b.State))
	}
	return all
}
