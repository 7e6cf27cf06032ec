package plan

import (
	"net/netip"

	"sluice/conf"
	"sluice/engine/tables"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
)

// candidates returns what the service's scheduler would choose from, in the order of package
// tables.
func (in *Input) candidates(s *conf.Service) []sched.Candidate {
	all := make([]sched.Candidate, 0, len(s.Backends))
	for i := len(s.Backends) - 1; i >= 0; i-- {
		b := &s.Backends[i]
		id := s.Key.BackendID(b.Key)
		last := in.LastWeights[id]
		if b.Weight > 0 {
			last = b.Weight
		}
		all = append(all, sched.Candidate{
			Weight: uint32(in.Overrides.Weight(id, b.Weight)), LastWeight: uint32(last), Up: !in.Down(id),
			Key: netip.AddrPortFrom(b.Key.Address, b.Key.Port),
		})
	}
	return all
}

// sampler compares the choices of the running and the next schedulers for the same clients.
type sampler struct{ running, next *sched.Builder }

func newSampler(running, next *conf.Config) *sampler {
	return &sampler{
		running: sched.NewBuilder(tables.HashKey(running.Engine.HashKey)),
		next:    sched.NewBuilder(tables.HashKey(next.Engine.HashKey)),
	}
}

// sampledClients is the number of clients in a sample. The result is nearly always right to 0.01.
const sampledClients = 1 << 14

// moved returns the portion of clients that would get another backend, or nil if one of the
// schedulers does not choose by the client.
func (s *sampler) moved(running, next *conf.Service, before, after []sched.Candidate) (*float64, error) {
	if !hashes(running.Scheduler) || !hashes(next.Scheduler) {
		return nil, nil
	}
	old, err := s.running.NewHashed(running.Scheduler, running.Hash == conf.HashAddressPort, before)
	if err != nil {
		return nil, err
	}
	fresh, err := s.next.NewHashed(next.Scheduler, next.Hash == conf.HashAddressPort, after)
	if err != nil {
		return nil, err
	}
	var state sched.State
	loads := counter.NewLoads(1, 1)
	vip := packet.AddrFrom(next.Key.Address)
	key := sched.Key{VIP: [2]uint64{vip.Hi, vip.Lo}, VIPPort: next.Key.Ports.First, IPv4: next.Key.Address.Is4()}
	different := 0
	for i := range uint64(sampledClients) {
		key.Client, key.ClientPort = client(i, vip)
		if picked(before, old.Pick(&state, loads, &key)) != picked(after, fresh.Pick(&state, loads, &key)) {
			different++
		}
	}
	portion := float64(different) / sampledClients
	return &portion, nil
}

// hashes reports whether a scheduler sends equal clients to equal backends.
func hashes(scheduler string) bool {
	return scheduler == "sh" || scheduler == "dh" || scheduler == "mh"
}

// picked returns the address of the backend that a scheduler chose, or the zero AddrPort if it
// chose none.
func picked(all []sched.Candidate, at int) netip.AddrPort {
	if at < 0 {
		return netip.AddrPort{}
	}
	return all[at].Key
}

// client returns the i-th of many different clients, of the family of vip. They are the same in
// every plan, and spread over all addresses by a multiplication with an odd number.
func client(i uint64, vip packet.Addr) (addr [2]uint64, port uint16) {
	x := (i + 1) * 0x9E3779B97F4A7C15
	if vip.Is4() {
		return [2]uint64{vip.Hi, vip.Lo&^0xFFFFFFFF | x>>32}, uint16(x)
	}
	return [2]uint64{0x20010db8<<32 | x>>40, x * 0xBF58476D1CE4E5B9}, uint16(x)
}
