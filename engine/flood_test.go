package engine_test

import (
	"fmt"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestSYNFlood checks that a flood of SYNs at a service, enough to fill the table several times,
// keeps no request from it, nor from another service, and breaks no connection. Between a request's
// SYN and the backend's answer come a thousand more SYNs of the flood.
func TestSYNFlood(t *testing.T) {
	for workers, mode := range map[int]string{1: "nat", 2: "fullnat"} {
		t.Run(fmt.Sprint(mode, workers), func(t *testing.T) {
			t.Parallel()
			one := svc{name: "one", mode: mode, backends: []string{"10.0.0.11:80"}}
			two := svc{name: "two", vip: "198.51.100.11", mode: mode, backends: []string{"10.0.0.12:80"}}
			if mode == "fullnat" {
				one.extra = "source = [\"10.0.0.2\"]\n"
				two.extra = one.extra
			}
			lab := enginetest.New(t, workers, workers)
			lab.Start(workers, config(one, two))
			capacity := int(lab.Stats().Tables.Capacity)
			sent := 0
			flood := func(n int) {
				for range n {
					from := fmt.Sprintf("203.%d.%d.%d:%d", sent>>16&255, sent>>8&255, 1+sent&127, 1024+sent%60000)
					lab.Arrive(enginetest.Clients, packettest.TCP(from, vip4+":80").Flags(syn).Frame())
					if sent++; sent%128 == 0 {
						lab.Quiet()
						lab.Collect()
					}
				}
				lab.Quiet()
				lab.Collect()
			}
			// request opens a connection and uses it; others sends what comes in between.
			request := func(client, vip, host string, others func()) bool {
				step := func(port int, p packettest.Packet) (enginetest.Sent, bool) {
					got := lab.Send(port, 0, p.Frame())
					if len(got) != 1 || got[0].Port == port {
						return enginetest.Sent{}, false
					}
					return got[0], true
				}
				opened, ok := step(enginetest.Clients, packettest.TCP(client, vip).Flags(syn))
				if !ok {
					return false
				}
				others()
				m := parse(t, opened.Frame)
				from := at(m.Src.String(), int(m.SrcPort))
				for _, flags := range []uint8{syn | ack, ack} {
					if _, ok := step(enginetest.Backends, packettest.TCP(host, from).Flags(flags)); !ok {
						return false
					}
					if _, ok := step(enginetest.Clients, packettest.TCP(client, vip)); !ok {
						return false
					}
				}
				return true
			}
			nothing := func() {}
			for n := range 50 {
				if !request(fmt.Sprintf("192.0.2.7:%d", 2000+n), vip4+":80", "10.0.0.11:80", nothing) {
					t.Fatalf("connection %d before the flood", n)
				}
			}
			flood(3 * capacity)
			good := map[string]int{}
			for n := range 20 {
				client := fmt.Sprintf("192.0.2.8:%d", 2000+n)
				if request(client, vip4+":80", "10.0.0.11:80", func() { flood(capacity / 8) }) {
					good["one"]++
				}
				if request(client, "198.51.100.11:80", "10.0.0.12:80", func() { flood(capacity / 8) }) {
					good["two"]++
				}
			}
			if good["one"] < 18 || good["two"] < 19 {
				t.Errorf("of 20 requests %d of the service with the flood and %d of the other succeeded", good["one"], good["two"])
			}
			for n := range 50 {
				one := lab.Send(enginetest.Clients, 0, packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 2000+n), vip4+":80").Frame())
				if len(one) != 1 || one[0].Port != enginetest.Backends {
					t.Errorf("connection %d is gone", n)
				}
			}
			lab.Quiet()
			if s := lab.Stats(); s.Displaced == 0 || s.Replied != 0 {
				t.Errorf("%d displaced, %d answered, drops %v", s.Displaced, s.Replied, nonzero(s.Drops))
			}
		})
	}
}
