package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/tools/e2e/testbed"
)

// jsonVerb runs a verb with -o json and returns what it printed.
func jsonVerb[T any](t *testing.T, d *testbed.Daemon, args ...string) (value T) {
	t.Helper()
	text, err := d.Verb(ctxOf(t), append(args, "-o", "json")...)
	must(t, err)
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("sluice %v -o json: %v:\n%s", args, err, text)
	}
	return value
}

type object = map[string]any

// wantKeys checks that an object has at least these keys.
func wantKeys(t *testing.T, what string, o object, keys string) {
	t.Helper()
	for _, key := range strings.Fields(keys) {
		if _, ok := o[key]; !ok {
			t.Errorf("%s has no %q: %v", what, key, o)
		}
	}
}

// TestVerbs: the output of commands with a running daemon, word for word.
func TestVerbs(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, nat4, dr4))
	held := hold(t, b, nat4.URL(), 3)
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})

	services := jsonVerb[[]object](t, d, "list")
	if len(services) != 4 {
		t.Fatalf("list gives %d services, want 4", len(services))
	}
	for _, s := range services {
		wantKeys(t, "a service", s, "name address port protocol mode scheduler backends")
		for _, be := range s["backends"].([]any) {
			wantKeys(t, "a backend", be.(object), "address port weight mode state active inactive packets bytes connections")
		}
	}
	web := services[0]
	for key, want := range (object{"name": "web-nat4", "address": "198.51.100.10", "port": 80.0, "protocol": "tcp", "mode": "nat", "scheduler": "rr"}) {
		if web[key] != want {
			t.Errorf("the service's %s is %v, want %v", key, web[key], want)
		}
	}
	for i, be := range web["backends"].([]any) {
		be := be.(object)
		for key, want := range (object{"address": b.Backends[i].Addr(4).String(), "port": 8080.0, "weight": 1.0, "mode": "nat",
			"state": "up", "active": 1.0, "connections": 3.0}) {
			if be[key] != want {
				t.Errorf("backend %d: %s is %v, want %v", i+1, key, be[key], want)
			}
		}
		if be["packets"].(float64) < 10 || be["bytes"].(float64) < 500 {
			t.Errorf("backend %d carried %v packets and %v bytes", i+1, be["packets"], be["bytes"])
		}
	}

	conns := jsonVerb[[]object](t, d, "conns")
	for _, h := range held {
		at := slices.IndexFunc(conns, func(c object) bool { return c["client"] == h.Local })
		if at < 0 {
			t.Errorf("conns does not list the connection from %s", h.Local)
			continue
		}
		wantKeys(t, "a connection", conns[at], "service protocol client virtual backend state mode")
		if conns[at]["state"] != "ESTABLISHED" || conns[at]["virtual"] != "198.51.100.10:80" {
			t.Errorf("the connection from %s is %v", h.Local, conns[at])
		}
	}

	stats := jsonVerb[object](t, d, "stats")
	wantKeys(t, "stats", stats, "rx forwarded replied drops workers ports frames")

	for _, step := range []struct {
		args   []string
		weight float64
		state  string
	}{
		{[]string{"drain", "web-nat4", "10.2.0.12"}, 0, "drain"},
		{[]string{"weight", "web-nat4", "10.2.0.12:8080", "7"}, 7, "up"},
		{[]string{"weight", "web-nat4", "10.2.0.12", "1"}, 1, "up"},
	} {
		_, err := d.Verb(ctxOf(t), step.args...)
		must(t, err)
		be := jsonVerb[[]object](t, d, "list")[0]["backends"].([]any)[1].(object)
		if be["weight"] != step.weight || be["state"] != step.state {
			t.Errorf("after %v the backend has weight %v and is %v", step.args, be["weight"], be["state"])
		}
	}
	moves(t, held...)
	if info, err := os.Stat(d.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the control socket: %v, %v; want mode 0600", info, err)
	}
}

// TestExitCodes: 0 done, 1 the command failed, 2 usage.
func TestExitCodes(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, nat4))
	bad := filepath.Join(t.TempDir(), "bad.toml")
	must(t, os.WriteFile(bad, []byte("[[port]]\nname = \"eth0\"\ncolour = \"red\"\n"), 0o600))
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{0, []string{"check", "--config", d.Config}, ""},
		{1, []string{"check", "--config", bad}, "bad.toml:3"},
		{1, []string{"check", "--config", bad + ".missing"}, "missing"},
		{0, []string{"version"}, ""},
		{0, []string{"list", "--socket", d.Socket}, ""},
		{1, []string{"list", "--socket", d.Socket + ".none"}, d.Socket + ".none"},
		{1, []string{"drain", "no-service", "10.2.0.12", "--socket", d.Socket}, "web-nat4"},
		{1, []string{"drain", "web-nat4", "10.9.9.9", "--socket", d.Socket}, "10.2.0.11"},
		{2, []string{"weight", "web-nat4", "10.2.0.12", "70000", "--socket", d.Socket}, "65535"},
		{2, []string{"weight", "web-nat4", "10.2.0.12", "--socket", d.Socket}, ""},
		{2, []string{"dance"}, "dance"},
		{2, []string{"list", "--colour"}, "colour"},
		{1, []string{"run", "--config", bad}, "bad.toml:3"},
		{1, []string{"run", "--config", d.Config}, d.Socket}, // one runs already
	} {
		r, err := b.Run(ctxOf(t), c.args...)
		must(t, err)
		if r.Code != c.code || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("sluice %v: exit status %d, want %d, and %q on stderr:\n%s", c.args, r.Code, c.code, c.says, r.Stderr)
		}
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})
}
