package pressure

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"sluice/pipeline/counter"
)

const (
	// kept is the part of the count of a prefix that remains from one step to the next.
	kept = 0.75
	// worthNaming is the least share of a prefix that is named, and mostNamed how many are. What is
	// less may be an error of counter.Prefixes.
	worthNaming = 0.03
	mostNamed   = 5
)

// Share is a source prefix, and its part of all packets that are counted, 0 to 1.
type Share struct {
	Prefix netip.Prefix
	Share  float64
}

// prefixes counts packets by source prefix: those of late steps more than those of early ones.
type prefixes struct {
	counts map[netip.Prefix]float64
	all    float64 // packets that counts are parts of
}

func newPrefixes() prefixes { return prefixes{counts: make(map[netip.Prefix]float64)} }

// fade lowers the counts at a step, so that prefixes that send no more are not named for long.
func (p *prefixes) fade() {
	p.all *= kept
	for prefix := range p.counts {
		p.counts[prefix] *= kept
	}
	maps.DeleteFunc(p.counts, func(_ netip.Prefix, n float64) bool { return n < 0.5 })
}

// add adds the packets from a prefix. They are in all already.
func (p *prefixes) add(of *counter.PrefixCount) { p.counts[of.Netip()] += float64(of.Count - of.Over) }

// busiest returns the busiest prefixes.
func (p *prefixes) busiest() (shares []Share) {
	for prefix, of := range p.counts {
		if share := of / max(p.all, 1); share >= worthNaming {
			shares = append(shares, Share{prefix, min(share, 1)})
		}
	}
	slices.SortFunc(shares, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return shares[:min(len(shares), mostNamed)]
}
