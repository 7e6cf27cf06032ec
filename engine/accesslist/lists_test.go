package accesslist_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	. "sluice/engine/accesslist"
	"sluice/pipeline"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

var now = time.Unix(1_000_000, 0).UTC()

func prefixes(texts ...string) []netip.Prefix {
	all := []netip.Prefix{}
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func key(port uint16) service.Key {
	return service.Key{Address: netip.MustParseAddr("198.51.100.1"), Ports: service.Ports{First: port, Last: port}, Protocol: service.TCP}
}

// config returns a configuration with lists for all services and for each service.
func config(all conf.Access, own ...conf.Access) *conf.Config {
	c := &conf.Config{Access: all}
	for i, a := range own {
		c.Services = append(c.Services, conf.Service{Name: string(rune('a' + i)), Key: key(uint16(1 + i)), Access: a})
	}
	return c
}

// TestCompile checks that lists are compiled again only if they have changed, that the version
// tells this, and that services with the same files share a table.
func TestCompile(t *testing.T) {
	file := &conf.PrefixFile{Path: "/d", Prefixes: prefixes("192.0.2.0/24"), Lines: []int32{1}}
	cfg := config(conf.Access{Deny: prefixes("203.0.113.0/24")}, conf.Access{DenyFile: file}, conf.Access{DenyFile: file}, conf.Access{})
	l := Compile(cfg, nil, now, nil)
	if Compile(cfg, nil, now, l) != l {
		t.Error("equal lists are compiled again")
	}
	a, b, c := l.Of(key(1)), l.Of(key(2)), l.Of(key(3))
	if a != b || a.Own == nil || a.All == nil || c.Own != nil || c.All != a.All {
		t.Errorf("%v %v %v", a, b, c)
	}
	next := Compile(cfg, Entries{}.With(Entry{Service: key(3), Prefix: prefixes("10.0.0.0/8")[0], Deny: true}), now, l)
	if next.Version() == l.Version() || next.Of(key(1)) != a || next.Of(key(3)).Own == nil {
		t.Errorf("%v", next)
	}
	if none := Compile(config(conf.Access{}, conf.Access{}), nil, now, next); none.Of(key(1)) != (pipeline.Lists{}) || none.Version() == next.Version() {
		t.Errorf("%v", none)
	}
	var without *Lists
	if _, why := without.Explain(key(1), netip.MustParseAddr("::")); why != "" || without.Of(key(1)) != (pipeline.Lists{}) || without.Version() != 0 {
		t.Errorf("no lists: %s", why)
	}
}

// TestExplain checks that the explanation is what the tables do, and which list is named.
func TestExplain(t *testing.T) {
	file := &conf.PrefixFile{Path: "/allow", Prefixes: prefixes("10.0.0.0/8", "10.1.0.0/16"), Lines: []int32{2, 7}}
	cfg := config(conf.Access{Deny: prefixes("10.1.1.0/24", "192.0.2.0/24")}, conf.Access{AllowFile: file}, conf.Access{Allow: prefixes()})
	entries := Entries{}.With(Entry{Prefix: prefixes("192.0.2.0/24")[0]}).
		With(Entry{Service: key(1), Prefix: prefixes("10.1.0.0/16")[0], Deny: true}).
		With(Entry{Service: key(1), Prefix: prefixes("10.0.0.0/8")[0], Deny: true, Until: now.Add(-time.Second)})
	l := Compile(cfg, entries, now, nil)
	for _, c := range []struct {
		service uint16
		client  string
		denied  bool
		why     string
	}{
		{1, "10.2.0.1", false, "allowed by 10.0.0.0/8 of [service.access] /allow:2"},
		{1, "10.1.2.1", true, "denied by 10.1.0.0/16 of [service.access] set at run time"},
		{1, "10.1.1.1", true, "denied by 10.1.1.0/24 of [access] deny"},
		{1, "192.0.2.1", true, "no prefix of [service.access] allow has 192.0.2.1"},
		{2, "10.2.0.1", true, "no prefix of [service.access] allow has 10.2.0.1"},
		{3, "192.0.2.1", false, "allowed by 192.0.2.0/24 of [access] set at run time"},
		{3, "2001:db8::1", false, "no prefix of [access] has 2001:db8::1"},
	} {
		client := netip.MustParseAddr(c.client)
		denied, why := l.Explain(key(c.service), client)
		of := l.Of(key(c.service))
		does := of.All.Denies(packet.AddrFrom(client)) || of.Own != nil && of.Own.Denies(packet.AddrFrom(client))
		if denied != c.denied || does != c.denied || why != c.why {
			t.Errorf("%s to %d: %v (tables: %v), %s; want %v, %s", c.client, c.service, denied, does, why, c.denied, c.why)
		}
	}
}

// TestStoredForm checks that Parse is the inverse of Encode, and that it names what is invalid.
func TestStoredForm(t *testing.T) {
	all := Entries{}.With(Entry{Prefix: prefixes("192.0.2.0/24")[0], Deny: true, Since: now}).
		With(Entry{Service: key(80), Prefix: prefixes("2001:db8::/32")[0], Until: now.Add(time.Hour), Since: now})
	data, err := all.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Parse(data); err != nil || !reflect.DeepEqual(back, all) {
		t.Errorf("%v, %v from %s", back, err, data)
	}
	for change, want := range map[string]string{
		`"192.0.2.0/24" -> "192.0.2.1/24"`: `prefix "192.0.2.1/24" of  ::`,
		`"version": 1 -> "version": 2`:     "it has version 2; this program knows 1",
		`"tcp" -> "icmp"`:                  `protocol "icmp"`,
	} {
		from, to, _ := strings.Cut(change, " -> ")
		if got, err := Parse([]byte(strings.Replace(string(data), from, to, 1))); err == nil || len(got) > 1 {
			t.Errorf("%s: %v, %v, want %s", change, got, err, want)
		}
	}
	if end := all.NextEnd(now); !end.Equal(now.Add(time.Hour)) {
		t.Errorf("%v", end)
	}
	if next, over := all.Without(func(e Entry) bool { return e.Over(now.Add(time.Hour)) }); len(next) != 1 || len(over) != 1 || len(all) != 2 {
		t.Errorf("%v, %v", next, over)
	}
}
