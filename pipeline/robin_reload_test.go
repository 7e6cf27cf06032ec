package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// TestRoundRobinOverReloads: whole connections, one after the other, each go to the next backend
// while other services are added and removed.
func TestRoundRobinOverReloads(t *testing.T) {
	t.Parallel()
	w := newWorlds(t, 1, 8192, nat())
	r := rand.New(rand.NewPCG(1, 1))
	other := svc{vip: "198.51.100.11", mode: service.DR, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
	last := -1
	for n := range steps(20_000) {
		if r.IntN(10) == 0 {
			other.gone = r.IntN(2) == 0
			w.configure(nat(), other)
		}
		client := fmt.Sprintf("192.0.2.%d:%d", 1+n%200, 1024+n/200%20_000)
		o := w.in(packettest.TCP(client, web4).Flags(syn))
		if o.Verdict != pipeline.Forward {
			t.Fatalf("connection %d: %s", n, o)
		}
		host := int(o.frame()[5])
		if order := map[int]int{-1: host, 11: 12, 12: 13, 13: 11}; order[last] != host {
			t.Fatalf("connection %d went to %d after %d", n, host, last)
		}
		last = host
		from := fmt.Sprintf("10.0.0.%d:8080", host)
		w.out(packettest.TCP(from, client).Flags(syn | ack))
		w.in(packettest.TCP(client, web4))
		w.in(packettest.TCP(client, web4).Flags(ack | 8).Payload([]byte("GET")))
		w.out(packettest.TCP(from, client).Flags(ack | 8).Payload([]byte("OK")))
		w.out(packettest.TCP(from, client).Flags(fin | ack))
		w.in(packettest.TCP(client, web4).Flags(fin | ack))
		w.out(packettest.TCP(from, client))
		if n%50 == 0 {
			w.pass(uint32(r.IntN(4000)))
		}
	}
}
