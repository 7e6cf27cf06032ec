package counter

import (
	"net/netip"
	"slices"
)

// Prefixes finds the source prefixes that most of some events come from, with fixed memory: the
// Space-Saving algorithm (Metwally, Agrawal, El Abbadi, 2005), for each set of slots. A prefix
// without a slot takes that of the least count in its set, and goes on from that count. So a count
// is never too low, and too high by Over at most. Beyond prefixesExact events that holds of a
// sample, so that a flood pays for few of its packets. It belongs to one goroutine.
type Prefixes struct {
	slots [prefixSets * prefixSet]PrefixCount
	n     uint32 // events
	rand  uint64 // state of the generator that samples
}

const (
	prefixSetBits = 3
	prefixSets    = 1 << prefixSetBits
	prefixSet     = 8 // slots of a set

	prefixesExact = 1024 // events that are all counted
	sampleBits    = 4    // log2 of how many of the others one stands for
)

// PrefixCount is how many events of a service came from a prefix.
type PrefixCount struct {
	Prefix  uint64 // packet.Addr.Prefix
	Service uint32 // number of the service
	Count   uint32 // 0: the slot is free
	Over    uint32 // by how much Count may be too high
}

// Add counts an event of a service from a prefix.
func (p *Prefixes) Add(service uint32, prefix uint64) {
	if p.n < prefixesExact {
		p.n++
		p.add(service, prefix, 1)
		return
	}
	// The generator of Knuth's MMIX.
	if p.rand = p.rand*6364136223846793005 + 1442695040888963407; p.rand>>(64-sampleBits) == 0 {
		p.add(service, prefix, 1<<sampleBits)
	}
}

// AddMany counts so many events of a service from a prefix.
func (p *Prefixes) AddMany(service uint32, prefix uint64, events uint32) {
	p.add(service, prefix, events)
}

// add adds to the count of a prefix.
func (p *Prefixes) add(service uint32, prefix uint64, by uint32) {
	at := (prefix ^ uint64(service)<<44) * 0x9e3779b97f4a7c15 >> (64 - prefixSetBits) * prefixSet
	set := p.slots[at : at+prefixSet]
	least := &set[0]
	for i := range set {
		slot := &set[i]
		if slot.Prefix == prefix && slot.Service == service && slot.Count > 0 {
			slot.Count += by
			return
		}
		if slot.Count < least.Count {
			least = slot
		}
	}
	*least = PrefixCount{prefix, service, least.Count + by, least.Count}
}

// All returns the prefixes with their counts, in no particular order.
func (p *Prefixes) All() []PrefixCount {
	return slices.DeleteFunc(slices.Clone(p.slots[:]), func(c PrefixCount) bool { return c.Count == 0 })
}

// Netip returns the prefix: a /24 of IPv4, or a /48 of IPv6.
func (c PrefixCount) Netip() netip.Prefix {
	if c.Prefix>>32 == 0xffff {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(c.Prefix >> 24), byte(c.Prefix >> 16), byte(c.Prefix >> 8)}), 24)
	}
	var a [16]byte
	for i := range 6 {
		a[i] = byte(c.Prefix >> (56 - 8*i))
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}
