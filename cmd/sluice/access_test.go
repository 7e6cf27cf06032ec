package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// accessDaemon answers the verbs of access and records what they ask.
type accessDaemon struct {
	*apitest.Fake
	asked string
}

func (d *accessDaemon) SetAccess(_ context.Context, r api.AccessRequest) (api.AccessEntry, error) {
	d.asked = fmt.Sprintf("%+v", r)
	return api.AccessEntry{Prefix: r.Prefix, Service: r.Service, Action: r.Action, Since: time.Now(), Configured: true}, nil
}

func (d *accessDaemon) AccessLists(context.Context) (api.AccessLists, error) {
	return api.AccessLists{
		Entries: []api.AccessEntry{{Prefix: "203.0.113.0/24", Action: "deny", Until: time.Now().Add(time.Hour), Configured: true}},
		Lists:   []api.AccessList{{Service: "web", Allow: 2, Deny: 3, DenyFile: "/etc/deny", Others: "deny"}},
	}, nil
}

func (d *accessDaemon) ClearAccess(_ context.Context, q api.AccessQuery) ([]api.AccessEntry, error) {
	d.asked = fmt.Sprintf("%+v", q)
	return []api.AccessEntry{{Prefix: "203.0.113.0/24", Action: "deny"}}, nil
}

func (d *accessDaemon) ReloadAccess(context.Context) (api.ReloadResult, error) {
	return api.ReloadResult{Changes: []string{"access: 1 added"}}, nil
}

// TestAccess checks what each verb of access asks the daemon for, and what it shows.
func TestAccess(t *testing.T) {
	d := &accessDaemon{Fake: apitest.NewFake()}
	_, socket := apitest.Serve(t, d)
	for _, c := range []struct{ line, asked, shown string }{
		{"deny 203.0.113.0/24 --for 10m --service tcp/198.51.100.10:80", "{Prefix:203.0.113.0/24 Service:web Action:deny ForS:600}", "203.0.113.0/24  deny    web"},
		{"allow 2001:db8::/32", "{Prefix:2001:db8::/32 Service: Action:allow ForS:0}", "2001:db8::/32  allow   all      -"},
		{"list", "", "web                2        3       deny    -           /etc/deny"},
		{"list", "", "203.0.113.0/24  deny    all      in "},
		{"clear 203.0.113.0/24", "{Prefix:203.0.113.0/24 Service:}", "203.0.113.0/24  deny"},
		{"clear --service web", "{Prefix: Service:web}", "203.0.113.0/24"},
		{"clear --all", "{Prefix: Service:}", "203.0.113.0/24"},
		{"reload", "", "access: 1 added"},
	} {
		d.asked = ""
		var out, errs strings.Builder
		code := execute(append([]string{"access"}, append(strings.Fields(c.line), "--socket", socket)...), &out, &errs)
		if code != 0 || d.asked != c.asked || !strings.Contains(out.String(), c.shown) {
			t.Errorf("access %s: exit code %d, asked %q, want %q; shown\n%s%s\nwant %q", c.line, code, d.asked, c.asked, out.String(), errs.String(), c.shown)
		}
	}
	for _, line := range []string{"deny", "deny a b", "clear", "clear --all --service web", "clear 192.0.2.1 --all", "deny 192.0.2.1 --for 800h", "deny 192.0.2.1 --for -1s", "drop 192.0.2.1"} {
		var out, errs strings.Builder
		if code := execute(append([]string{"access"}, append(strings.Fields(line), "--socket", socket)...), &out, &errs); code != 2 {
			t.Errorf("access %s: exit code %d, want 2: %s", line, code, errs.String())
		}
	}
}
