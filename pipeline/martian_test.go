package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// TestMartians: what no client can have sent opens no connection in any mode, on the fast and on
// the slow path.
func TestMartians(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		for _, proto := range []service.Protocol{service.TCP, service.UDP} {
			for _, slow := range []bool{false, true} {
				w := newWorld(t)
				w.slowOnly = slow
				w.configure(
					svc{mode: mode, proto: proto, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}, sorry: []backend{{host: 15, port: 80}}},
					svc{vip: "198.51.100.11", mode: mode, proto: proto, backends: []backend{{host: 13, port: 80}, {host: 14, port: 80, gone: true}}},
					svc{vip: vip6, mode: mode, proto: proto, backends: []backend{{host: 11, port: 80}}},
					svc{vip: "198.51.100.12", ports: service.Ports{First: 5000, Last: 5999}, mode: mode, proto: proto, backends: []backend{{host: 16}}},
				)
				opening := func(from, to string) packettest.Packet {
					if proto == service.UDP {
						return packettest.UDP(from, to)
					}
					return packettest.TCP(from, to).Flags(syn)
				}
				check := func(from, to, want string) {
					t.Helper()
					before := w.sum()
					if got := w.in(opening(from, to)).String(); got != want {
						t.Errorf("mode %s, %s, slow %v: %s to %s: %s, want %s", mode, proto, slow, from, to, got, want)
					}
					if after := w.sum(); want != "forward" && after.Drops[counter.Martian]-before.Drops[counter.Martian]+after.Drops[counter.Hairpin]-before.Drops[counter.Hairpin] != 1 {
						t.Errorf("drops: %v", after.Drops)
					}
				}
				for _, from := range []string{vip4, "198.51.100.11", own4, "10.0.255.255", "127.0.0.1", "255.255.255.255", "224.0.0.1", "0.0.0.0"} {
					check(port(from, "80"), web4, "martian")
				}
				for _, from := range []string{own6, "::1", "ff02::1", "::"} {
					check(port(from, "80"), web6, "martian")
				}
				source := "martian" // of fullnat
				if mode != service.FullNAT {
					source = "forward"
				}
				check("10.0.0.2:80", web4, source)

				echoes := "martian" // a datagram that a UDP backend would answer
				if proto == service.TCP {
					echoes = "forward"
				}
				for _, host := range []int{13, 14, 15, 16} {
					from := fmt.Sprintf("10.0.0.%d:80", host)
					if host == 16 {
						from = "10.0.0.16:5999"
					}
					want := echoes
					if host == 15 && proto == service.TCP && mode == service.NAT {
						want = "hairpin" // of the same service
					}
					check(from, web4, want)
				}
				check("10.0.0.13:79", web4, "forward")
				check("10.0.0.16:6000", web4, "forward")
				check("10.0.0.17:80", web4, "forward")
				check("10.0.255.254:80", web4, "forward")
				local := "martian" // towards another link
				if mode == service.FullNAT {
					local = "forward"
				}
				check("169.254.3.4:80", web4, local)
				check("[fe80::7]:80", web6, local)
			}
		}
	}
}

// TestLinkLocalOnItsLink: a link-local client reaches backends on its own link, without a tunnel.
func TestLinkLocalOnItsLink(t *testing.T) {
	for mode, want := range map[service.Mode]string{service.NAT: "forward", service.DR: "forward", service.TUN: "martian", service.FullNAT: "forward"} {
		w := newWorld(t, svc{mode: mode, backends: []backend{{host: 11, port: 80}}}, svc{vip: vip6, mode: mode, backends: []backend{{host: 11, port: 80}}})
		for from, to := range map[string]string{"169.254.3.4:1000": web4, "[fe80::7]:1000": web6} {
			if got := w.out(packettest.TCP(from, to).Flags(syn)).String(); got != want {
				t.Errorf("mode %s: %s from the backends' link: %s, want %s", mode, from, got, want)
			}
		}
	}
}

// TestHairpin: a client that is a backend of the service is served where the reply can come back.
func TestHairpin(t *testing.T) {
	for _, c := range []struct {
		mode   service.Mode
		remote bool // the backends are in no network that the balancer is in
		itself string
		other  string
	}{
		{service.NAT, false, "hairpin", "hairpin"},
		{service.NAT, true, "hairpin", "forward"},
		{service.FullNAT, false, "forward", "forward"},
		{service.TUN, false, "forward", "forward"},
		{service.DR, false, "forward", "forward"},
	} {
		hosts := []string{"10.0.0.11", "10.0.0.12"}
		if c.remote {
			hosts = []string{"192.0.2.11", "192.0.2.12"}
		}
		for i, want := range []string{c.itself, c.other} {
			w := newWorld(t, svc{mode: c.mode, backends: []backend{{addr: hosts[0], port: 80, drain: i == 1}, {addr: hosts[1], port: 80, drain: i == 0}}})
			for n := range 3 {
				if got := w.out(packettest.TCP(fmt.Sprintf("%s:%d", hosts[0], 4000+n), web4).Flags(syn)).String(); got != want {
					t.Errorf("%s, remote %v, backend %d: %s, want %s", c.mode, c.remote, i, got, want)
				}
			}
			if n := w.sum(); n.ConnOpened != n.ConnClosed && want == "hairpin" {
				t.Errorf("%d connections are open", n.ConnOpened-n.ConnClosed)
			}
		}
	}
	// A backend of another service is a client like others.
	w := newWorld(t, nat(), svc{vip: "198.51.100.11", backends: []backend{{host: 14, port: 8080}}})
	if got := w.out(packettest.TCP("10.0.0.14:4000", web4).Flags(syn)).String(); got != "forward" {
		t.Errorf("a backend of another service: %s", got)
	}
}

// TestNoAnswerToMartians: a VIP that the kernel does not have answers none.
func TestNoAnswerToMartians(t *testing.T) {
	w := newWorld(t, svc{unowned: true, echo: true, backends: []backend{{host: 11, port: 80}}}, svc{vip: "198.51.100.11", backends: []backend{{host: 12, port: 80}}})
	for _, p := range []packettest.Packet{
		packettest.ICMP("198.51.100.11", vip4, 8, 0, 1, nil),
		packettest.ICMP(own4, vip4, 8, 0, 1, nil),
		packettest.UDP("198.51.100.11:80", port(vip4, "81")),
		packettest.TCP(port(own4, "4000"), port(vip4, "81")).Flags(syn),
		packettest.TCP(port(own4, "4000"), web4).Flags(ack),
	} {
		if got := w.in(p).String(); got != "martian" {
			t.Errorf("%v: %s", p, got)
		}
	}
	for _, p := range []packettest.Packet{packettest.ICMP("192.0.2.7", vip4, 8, 0, 1, nil), packettest.UDP(client4, port(vip4, "81"))} {
		if got := w.in(p).String(); got != "reply" {
			t.Errorf("a client's: %s", got)
		}
	}
}
