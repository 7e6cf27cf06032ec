package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// writeList writes a file of prefixes.
func writeList(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAccessLists checks the lists of a file: a denied client is dropped and counted under the
// service, explain and trace name the list and the prefix, and a list with errors changes nothing.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deny.txt")
	writeList(t, path, "# none\n203.0.113.0/24\n192.0.2.128/25\n")
	lists := fmt.Sprintf("[access]\ndeny_file = %q\n", path)
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, lists+config(nat3(), svc{name: "closed", port: "81", extra: "[service.access]\nallow = []\n", backends: nat3().backends}))
	open := func(client, port string, want int) {
		t.Helper()
		if n := len(lab.Send(enginetest.Clients, 0, packettest.TCP(client, vip4+":"+port).Flags(syn).Frame())); n != want {
			t.Errorf("%s to port %s: %d frames were sent, want %d", client, port, n, want)
		}
	}
	open("192.0.2.7:40000", "80", 1)
	open("192.0.2.200:40000", "80", 0)
	open("192.0.2.7:40000", "81", 0)
	dropped(t, lab.Stats(), "access_denied", 2)
	services, err := lab.Engine.List(context.Background())
	if err != nil || services[0].AccessDenied != 1 || services[1].AccessDenied != 1 {
		t.Errorf("%v: denied %d and %d, want 1 and 1", err, services[0].AccessDenied, services[1].AccessDenied)
	}
	says(t, explain(t, lab, "tcp 192.0.2.200:5 -> 198.51.100.10:80"), "! access: denied by 192.0.2.128/25 of [access] "+path+":3\n", "= dropped: ")
	says(t, explain(t, lab, "tcp 192.0.2.7:5 -> 198.51.100.10:81"), "! access: no prefix of [service.access] allow has 192.0.2.7\n")
	says(t, explain(t, lab, "tcp 192.0.2.7:5 -> 198.51.100.10:80"), "  access: no prefix of [access] has 192.0.2.7\n", "  schedule: ")

	writeList(t, path, "192.0.2.0/24\nmine\n")
	if _, err := lab.Reload(lists + config(nat3())); err == nil || !strings.Contains(err.Error(), path+`:2: "mine" is not a prefix`) {
		t.Errorf("%v", err)
	}
	open("192.0.2.8:40000", "80", 1)
	lab.Quiet()
}

// TestAccessResets checks that both ends of connections are reset that a new list denies, and no
// others, by all workers.
func TestAccessResets(t *testing.T) {
	t.Parallel()
	const flows = 40
	for _, mode := range []string{"nat", "fullnat"} {
		t.Run(mode, func(t *testing.T) {
			s := nat3()
			if s.mode = mode; mode == "fullnat" {
				s.extra = fmt.Sprintf("source = [%q]\n", fullnatFamilies[0].source)
			}
			lab := enginetest.New(t, 2, 1)
			lab.Start(2, config(s))
			clientOf := func(n int) string { return fmt.Sprintf("192.0.2.%d:%d", 1+n, 1024+n) }
			behind := connect(t, lab, clientOf, vip4+":80", flows)
			if _, err := lab.Reload("[access]\ndeny = [\"192.0.2.0/28\"]\n" + config(s)); err != nil {
				t.Fatal(err)
			}
			h, denied := &hosts{lab, make(map[string]bool)}, 15 // .1 to .15
			lab.Await("all ends to be reset", func() bool { h.listen(t); return len(h.reset) == 2*denied })
			for client := range behind {
				is := prefix("192.0.2.0/28").Contains(packettest.Addr(client))
				if h.reset[client+"->"+vip4+":80"] != is {
					t.Errorf("%s: reset %v, denied %v", client, !is, is)
				}
			}
			lab.Quiet()
		})
	}
}

// TestAccessAtRunTime checks what operators deny and allow at run time: it takes the place of the
// file's lists for the same prefix, holds over a reload and a restart, and ends when it is cleared
// or its time is over.
func TestAccessAtRunTime(t *testing.T) {
	t.Parallel()
	text := "[access]\ndeny = [\"192.0.2.0/24\"]\n" + config(nat3())
	state := t.TempDir()
	lab := enginetest.New(t, 1, 1)
	lab.StateDir = state
	lab.Start(1, text)
	client := 0
	open := func(lab *enginetest.Lab, of string) int {
		client++
		return len(lab.Send(enginetest.Clients, 0, packettest.TCP(fmt.Sprintf("%s:%d", of, 1024+client), vip4+":80").Flags(syn).Frame()))
	}
	expect := func(what string, lab *enginetest.Lab, of string, want int) {
		t.Helper()
		if n := open(lab, of); n != want {
			t.Errorf("%s: a packet of %s is sent on as %d, want %d", what, of, n, want)
		}
	}
	bg := context.Background()
	set := func(action, prefix, service string, seconds float64) {
		t.Helper()
		entry, err := lab.Engine.SetAccess(bg, api.AccessRequest{Prefix: prefix, Service: service, Action: action, ForS: seconds})
		if err != nil || entry.Action != action || entry.Service != service {
			t.Fatalf("%+v, %v", entry, err)
		}
	}
	expect("by the file", lab, "192.0.2.7", 0)
	set(api.AccessAllow, "192.0.2.0/24", "", 0)
	expect("allowed", lab, "192.0.2.7", 1)
	set(api.AccessDeny, "192.0.2.7", "web", 3600)
	expect("denied by the service", lab, "192.0.2.7", 0)
	says(t, explain(t, lab, "tcp 192.0.2.7:5 -> 198.51.100.10:80"), "! access: denied by 192.0.2.7/32 of [service.access] set at run time until ")
	says(t, explain(t, lab, "tcp 192.0.2.9:5 -> 198.51.100.10:80"), "  access: no prefix of [service.access] has 192.0.2.9")
	if _, err := lab.Reload(text); err != nil {
		t.Fatal(err)
	}
	expect("after a reload", lab, "192.0.2.7", 0)
	expect("after a reload", lab, "192.0.2.9", 1)

	for _, r := range []api.AccessRequest{{Prefix: "192.0.2.7/24", Action: "deny"}, {Prefix: "192.0.2.7", Action: "drop"}, {Prefix: "192.0.2.7", Action: "deny", Service: "no"}, {Prefix: "192.0.2.7", Action: "deny", ForS: -1}} {
		if entry, err := lab.Engine.SetAccess(bg, r); err == nil {
			t.Errorf("%+v: %+v", r, entry)
		}
	}
	if _, err := lab.Engine.ClearAccess(bg, api.AccessQuery{Prefix: "192.0.2.8"}); err == nil || !strings.Contains(err.Error(), "192.0.2.8 is not set at run time for all services") {
		t.Errorf("%v", err)
	}
	lab.Quiet()
	lab.Close()

	again := enginetest.New(t, 1, 1)
	again.StateDir = state
	again.Start(1, text)
	expect("after a restart", again, "192.0.2.7", 0)
	expect("after a restart", again, "192.0.2.9", 1)
	all, err := again.Engine.AccessLists(bg)
	if err != nil || len(all.Entries) != 2 || all.Entries[0].Prefix != "192.0.2.0/24" || all.Entries[1].Until.IsZero() || len(all.Lists) != 1 || all.Lists[0].Deny != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if cleared, err := again.Engine.ClearAccess(bg, api.AccessQuery{Service: "web"}); err != nil || len(cleared) != 1 {
		t.Errorf("%+v, %v", cleared, err)
	}
	expect("the service's cleared", again, "192.0.2.7", 1)
	if _, err := again.Engine.SetAccess(bg, api.AccessRequest{Prefix: "192.0.2.9", Action: api.AccessDeny, ForS: 0.3}); err != nil {
		t.Fatal(err)
	}
	again.Await("the prefix to be allowed again", func() bool { return open(again, "192.0.2.9") == 1 })
	if cleared, err := again.Engine.ClearAccess(bg, api.AccessQuery{}); err != nil || len(cleared) != 1 {
		t.Errorf("%+v, %v", cleared, err)
	}
	expect("all cleared", again, "192.0.2.9", 0)
	again.Quiet()
}

// TestAccessReload checks that the files of prefixes are read again, and nothing else, and that one
// with errors changes nothing.
func TestAccessReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deny.txt")
	writeList(t, path, "203.0.113.0/24\n")
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, fmt.Sprintf("[access]\ndeny_file = %q\n", path)+config(nat3()))
	lab.Write("this is not read")
	writeList(t, path, "203.0.113.0/24\n192.0.2.7\n")
	result, err := lab.Engine.ReloadAccess(context.Background())
	if want := []string{"access: deny_file " + path + ": 1 added: 192.0.2.7/32"}; err != nil || !slices.Equal(result.Changes, want) {
		t.Errorf("%v, %v, want %v", result.Changes, err, want)
	}
	if sent := lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.7:1", vip4+":80").Flags(syn).Frame()); len(sent) != 0 {
		t.Errorf("%v", sent)
	}
	writeList(t, path, "192.0.2.7/33\n")
	if _, err := lab.Engine.ReloadAccess(context.Background()); err == nil || !strings.Contains(err.Error(), path+`:1: "192.0.2.7/33" has the length "33"`) {
		t.Errorf("%v", err)
	}
	if sent := lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.7:2", vip4+":80").Flags(syn).Frame()); len(sent) != 0 {
		t.Errorf("%v", sent)
	}
	lab.Quiet()
}

// TestLimits checks the limits of a service and of a backend in a file: what is beyond them is
// dropped by name, counted by limit, or goes to the sorry server.
func TestLimits(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 1)
	full := svc{name: "full", port: "81", backends: []string{"10.0.0.11:8080"}}
	sorry := "[service.sorry]\naddress = \"10.0.0.13\"\nport = 8080\n"
	lab.Start(2, config(svc{extra: "[service.limits]\nconnections = 5\n" + sorry, backends: []string{"10.0.0.11:8080", "10.0.0.12:8080"}})+
		config(full)+"max_connections = 3\nmin_connections = 2\n")
	to := make(map[string]int)
	for n := range 20 {
		for i, port := range []string{"80", "81"} {
			lab.Arrive(enginetest.Clients, packettest.TCP(client(n+100*i), vip4+":"+port).Flags(syn).Frame())
			lab.Quiet()
			for _, sent := range lab.Collect() {
				to[port+" "+backendOf(t, sent.Frame)]++
			}
		}
	}
	if n := to["80 10.0.0.11"] + to["80 10.0.0.12"]; n != 5 || to["80 10.0.0.13"] != 15 || to["81 10.0.0.11"] != 3 {
		t.Errorf("%v", to)
	}
	dropped(t, lab.Stats(), "limited", 17)
	services, err := lab.Engine.List(context.Background())
	if err != nil || services[0].Limited["connections"] != 15 || services[1].Limited["max_connections"] != 17 {
		t.Errorf("%v: %v, %v", err, services[0].Limited, services[1].Limited)
	}
}

// TestLimitsBySource checks the limits of each client in a file, over two workers, and that a
// reload which leaves them alone keeps the counts.
func TestLimitsBySource(t *testing.T) {
	t.Parallel()
	s := nat3()
	s.extra = "[service.limits]\nsource_connections = 4\n"
	lab := enginetest.New(t, 2, 1)
	lab.Start(2, config(s))
	sent := func(from int) (n int) {
		for i := range 10 {
			for _, host := range []string{"192.0.2.7", "192.0.2.8"} {
				lab.Arrive(enginetest.Clients, packettest.TCP(fmt.Sprintf("%s:%d", host, from+i), vip4+":80").Flags(syn).Frame())
			}
		}
		lab.Quiet()
		return len(lab.Collect())
	}
	if n := sent(1000); n != 8 {
		t.Errorf("%d connections of two clients, want 8", n)
	}
	s.sched = "lc"
	if _, err := lab.Reload(config(s)); err != nil {
		t.Fatal(err)
	}
	if n := sent(2000); n != 0 {
		t.Errorf("%d connections after a reload, want none", n)
	}
	dropped(t, lab.Stats(), "limited", 32)
}
