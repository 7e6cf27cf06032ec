package tables

import (
	"net/netip"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/health/policy"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// TestPoolsBeginAnywhere compiles the same tables for daemons with different seeds: each sends from
// other ports first, however few there are.
func TestPoolsBeginAnywhere(t *testing.T) {
	for _, kernel := range []service.Ports{{First: 32768, Last: 60999}, {First: 2024, Last: 65535}} {
		poolsBeginAnywhere(t, kernel)
	}
}

// poolsBeginAnywhere does it for a source that leaves the kernel its ports.
func poolsBeginAnywhere(t *testing.T, kernel service.Ports) {
	t.Helper()
	cfg, _, err := conf.Parse("test.toml", []byte(`
[[port]]
name = "eth0"
[[service]]
address = "198.51.100.1"
port = 80
mode = "fullnat"
source = ["10.9.0.1"]
[[service.backend]]
address = "10.1.0.1"
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var first *policy.State
	health, _ := first.Step(policy.Input{Config: policy.NewIndex(cfg), Now: time.Unix(1, 0)})
	hops := nexthop.Build([]nexthop.PortInfo{{MAC: [6]byte{2, 1}, MTU: 1500, Up: true}},
		[]nexthop.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}},
		[]nexthop.Neighbour{{Addr: netip.MustParseAddr("10.1.0.1"), MAC: [6]byte{2, 2}}})
	if _, ok := hops.NextHop(packet.AddrFrom(netip.MustParseAddr("10.1.0.1"))); !ok {
		t.Fatal("the backend has no next hop")
	}
	ports := make(map[uint16]bool)
	for seed := range uint64(100) {
		result, err := Compile(&Input{
			Health: health, Hops: hops, KernelPorts: kernel, Locals: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
			Cards: []Card{{Name: "eth0", Queues: []int{0}}}, Workers: 1, Seed: &flow.Seed{A: 3 * seed, B: 5 * seed},
		}, None())
		if err != nil {
			t.Fatal(err)
		}
		for _, refs := range result.Tables.Pools {
			for _, ref := range refs {
				port, _ := ref.Pools[0].Peek(snat.NewMemory(true), result.Tables.Sources[ref.Source].Ports, 0, 0)
				ports[port] = true
			}
		}
	}
	if len(ports) < 90 {
		t.Errorf("the pools of 100 daemons begin at %d ports, beside the kernel's %v", len(ports), kernel)
	}
}
