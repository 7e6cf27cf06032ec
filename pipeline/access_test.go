package pipeline_test

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/access"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// listed returns a list of rules: + or -, and a prefix.
func listed(others bool, rules ...string) *access.Table {
	var all []access.Rule
	for _, text := range rules {
		all = append(all, access.Rule{Prefix: netip.MustParsePrefix(text[1:]), Deny: text[0] == '-'})
	}
	return access.New(all, others)
}

// denying returns a service with a list of its own.
func denying(s svc, rules ...string) svc {
	s.lists.Own = listed(false, rules...)
	return s
}

// TestListsBothAllow checks that a client must be allowed by the list of all services and by that
// of its own.
func TestListsBothAllow(t *testing.T) {
	deny, allow := listed(false, "-192.0.2.0/24"), listed(true, "+192.0.2.0/24")
	for _, c := range []struct {
		lists pipeline.Lists
		want  string
	}{
		{pipeline.Lists{}, "forward"},
		{pipeline.Lists{All: allow}, "forward"},
		{pipeline.Lists{All: allow, Own: allow}, "forward"},
		{pipeline.Lists{All: deny, Own: allow}, "access_denied"},
		{pipeline.Lists{All: allow, Own: deny}, "access_denied"},
		{pipeline.Lists{Own: listed(true)}, "access_denied"},
	} {
		for _, slow := range []bool{false, true} {
			s := nat()
			s.lists = c.lists
			w := newWorld(t, s)
			w.slowOnly = slow
			w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), c.want)
			denied := uint64(0)
			if c.want != "forward" {
				denied = 1
			}
			if n := w.procs[0].Services[1].Denied; n != denied {
				t.Errorf("%v: %d counted, want %d", c.lists, n, denied)
			}
		}
	}
}

// TestListsEndConnections checks what becomes of connections that are open when a list begins to
// deny their clients, in every mode: both ends are reset where replies pass through Sluice, and
// packets are dropped by name elsewhere. Others are left alone.
func TestListsEndConnections(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		for _, proto := range []service.Protocol{service.TCP, service.UDP} {
			t.Run(fmt.Sprint(mode, " ", proto), func(t *testing.T) {
				s := svc{mode: mode, proto: proto, backends: []backend{{host: 11, port: 80}}}
				w := newWorld(t, s)
				packet := func(client string, flags uint8) packettest.Packet {
					if proto == service.UDP {
						return packettest.UDP(client, web4)
					}
					return packettest.TCP(client, web4).Flags(flags)
				}
				const other = "203.0.113.7:40000"
				for _, client := range []string{client4, other} {
					w.ends(w.in(packet(client, syn)), "forward")
					w.ends(w.in(packet(client, ack)), "forward")
				}
				w.configure(denying(s, "-192.0.2.0/24"))
				probes := w.rstProbesAll()
				resets := proto == service.TCP && mode.RepliesThroughUs()
				if want := map[bool]int{true: 2}[resets]; len(probes) != want {
					t.Errorf("%d probes, want %d", len(probes), want)
				}
				if resets {
					w.ends(w.in(packet(client4, ack)), "reply")
				} else {
					w.ends(w.in(packet(client4, ack)), "access_denied")
				}
				w.ends(w.in(packet(client4, syn)), "access_denied")
				w.ends(w.in(packet(other, ack)), "forward")
				w.configure(s)
				w.ends(w.in(packet(client4, syn)), "forward")
			})
		}
	}
}

// TestListsCountByService checks that a service does not get the counts of another that had its
// number before.
func TestListsCountByService(t *testing.T) {
	w := newWorld(t, denying(nat(), "-192.0.2.0/24"))
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "access_denied")
	s := denying(nat(), "-192.0.2.0/24")
	s.vip = "198.51.100.99"
	w.configure(s)
	if c := w.procs[0].Services[1]; c.Of == w.tables.Services[1].Identity() {
		t.Errorf("%v counts for the next service", c)
	}
	w.ends(w.in(packettest.TCP(client4, "198.51.100.99:80").Flags(syn)), "access_denied")
	if c := w.procs[0].Services[1]; c.Of != w.tables.Services[1].Identity() || c.Denied != 1 {
		t.Errorf("%v", c)
	}
}
