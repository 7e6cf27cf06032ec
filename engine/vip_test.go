package engine_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"sluice/engine/enginetest"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/pipeline/packet/packettest"
)

// TestVIPs: all that is sent to a service's address is steered to the workers while the kernel has
// neither the address nor a host route to it.
func TestVIPs(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	steered := func(want string) {
		t.Helper()
		lab.Await("rules for "+want, func() bool { return fmt.Sprint(lab.Steered().VIPs) == want })
	}
	steered("[]")
	var ranges []netip.Prefix
	lab.Change(func(s *enginetest.Surroundings) { ranges, s.Ranges = s.Ranges, nil })
	steered("[198.51.100.10]")
	lab.Change(func(s *enginetest.Surroundings) { s.Ranges = ranges })
	steered("[]")
}

// TestStations: the MAC addresses to which frames for the workers are sent follow the interfaces.
func TestStations(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	steered := func(want ...steer.Station) {
		t.Helper()
		lab.Await(fmt.Sprint("rules for ", want), func() bool { return slices.Equal(lab.Steered().Stations, want) })
	}
	clients, backends := steer.Station{Ifindex: 2, MAC: enginetest.PortMAC(0)}, steer.Station{Ifindex: 3, MAC: enginetest.PortMAC(1)}
	steered(clients, backends)
	child := steer.Station{Ifindex: 2, MAC: [6]byte{0, 0, 0x5e, 0, 1, 51}, VLAN: 7}
	lab.Change(func(s *enginetest.Surroundings) {
		s.Ports[0].Stations = append(slices.Clone(s.Ports[0].Stations), route.Station{MAC: child.MAC, VLAN: child.VLAN})
	})
	steered(clients, child, backends)
	lab.Change(func(s *enginetest.Surroundings) { s.Ports[0].Stations = s.Ports[0].Stations[:1] })
	steered(clients, backends)
}

// TestICMPEcho: an address that the kernel does not have answers pings as its services say.
func TestICMPEcho(t *testing.T) {
	t.Parallel()
	ping := packettest.ICMP("192.0.2.7", vip4, 8, 0, 1, nil).Frame()
	for _, c := range []struct{ echo, up, drained string }{
		{"", "reply", "drop"}, {`icmp_echo = "when_up"`, "reply", "drop"},
		{`icmp_echo = "always"`, "reply", "reply"}, {`icmp_echo = "never"`, "drop", "drop"},
	} {
		lab := enginetest.New(t, 1, 1)
		lab.Change(func(s *enginetest.Surroundings) { s.Ranges = nil })
		answer := func(want string) {
			t.Helper()
			before, got := lab.Stats().Drops["echo_refused"], "drop"
			if len(lab.Send(enginetest.Clients, 0, ping)) > 0 {
				got = "reply"
			}
			if refused := lab.Stats().Drops["echo_refused"] - before; got != want || (got == "drop") != (refused == 1) {
				t.Errorf("%s: %s, want %s; %d are counted as refused", c.echo, got, want, refused)
			}
		}
		lab.Start(1, config(svc{extra: c.echo, backends: []string{"10.0.0.11:8080"}}))
		answer(c.up)
		if _, err := lab.Reload(config(svc{extra: c.echo, backends: []string{"10.0.0.11:8080 0"}})); err != nil {
			t.Fatal(err)
		}
		answer(c.drained)
	}
}
