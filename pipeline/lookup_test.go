package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// TestPrecedence: an exact port wins over a range, a range over any port, whatever their order.
func TestPrecedence(t *testing.T) {
	all := []svc{
		{ports: service.AnyPort, backends: []backend{{host: 11}}},
		{ports: service.Ports{First: 8000, Last: 8099}, backends: []backend{{host: 12}}},
		{ports: service.Ports{First: 8050, Last: 8050}, backends: []backend{{host: 13}}},
		{ports: service.Ports{First: 9000, Last: 9999}, backends: []backend{{host: 14}}},
		{ports: service.Ports{First: 1, Last: 100}, backends: []backend{{host: 15}}},
		{ports: service.AnyPort, proto: service.UDP, backends: []backend{{host: 16}}},
		{ports: service.AnyPort, vip: "198.51.100.11", backends: []backend{{host: 17}}},
		{ports: service.Ports{First: 65535, Last: 65535}, backends: []backend{{host: 18}}},
		{ports: service.AnyPort, vip: vip6, backends: []backend{{host: 19}}},
	}
	permutations(len(all), 40, func(order []int) {
		shuffled := make([]svc, len(all))
		for i, from := range order {
			shuffled[i] = all[from]
		}
		w := newWorld(t, shuffled...)
		for _, test := range []struct {
			to   string
			udp  bool
			host byte
		}{
			{vip4 + ":8050", false, 13}, {vip4 + ":8000", false, 12}, {vip4 + ":8099", false, 12}, {vip4 + ":8051", false, 12},
			{vip4 + ":7999", false, 11}, {vip4 + ":8100", false, 11}, {vip4 + ":9000", false, 14}, {vip4 + ":9999", false, 14},
			{vip4 + ":10000", false, 11}, {vip4 + ":1", false, 15}, {vip4 + ":100", false, 15}, {vip4 + ":101", false, 11},
			{vip4 + ":0", false, 11}, {vip4 + ":65535", false, 18}, {vip4 + ":65534", false, 11},
			{vip4 + ":8050", true, 16}, {vip4 + ":53", true, 16},
			{"198.51.100.11:8050", false, 17}, {"198.51.100.11:8051", false, 17},
		} {
			p := packettest.TCP(client4, test.to).Flags(syn)
			if test.udp {
				p = packettest.UDP(client4, test.to)
			}
			o := w.in(p)
			w.ends(o, "forward")
			if got := o.frame()[5]; got != test.host {
				t.Fatalf("order %v: %s went to host %d, want %d", order, test.to, got, test.host)
			}
			if got := packettest.Port(test.to); uint16(o.frame()[36])<<8|uint16(o.frame()[37]) != got {
				t.Errorf("%s: the backend is not asked for the port that the client asked for", test.to)
			}
		}
		w.ends(w.in(packettest.TCP(client6, port(vip6, "443")).Flags(syn)), "forward")
		w.ends(w.in(packettest.TCP(client4, "198.51.100.12:8050").Flags(syn)), "no_connection")
		w.ends(w.in(packettest.UDP(client6, port(vip6, "443"))), "no_connection")
	})
}

// permutations calls f with n orders of 0..length-1: rotations, forth and back.
func permutations(length, n int, f func(order []int)) {
	for k := range n {
		order := make([]int, length)
		for i := range order {
			order[i] = (i*(1+k/length%2*(length-2)) + k) % length
		}
		f(order)
	}
}

// TestManyServices: with a thousand services each is found, and nothing else.
func TestManyServices(t *testing.T) {
	var services []svc
	for i := range 1000 {
		services = append(services, svc{vip: fmt.Sprintf("198.51.%d.%d", 100+i/100, 1+i%100), backends: []backend{{host: 11 + i%8, port: 80}}})
	}
	w := newWorlds(t, 1, 4096, services...)
	for i, s := range services {
		o := w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 1024+i), s.vip+":80").Flags(syn))
		w.ends(o, "forward")
		if got := int(o.frame()[5]); got != 11+i%8 {
			t.Fatalf("%s went to host %d", s.vip, got)
		}
		w.ends(w.in(packettest.TCP(client4, s.vip+":81").Flags(syn)), "no_connection")
	}
	w.sum()
}
