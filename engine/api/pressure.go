package api

import (
	"fmt"
	"strings"
)

// Pressure is what a full table does to a service: its new connections find the service's part of
// the connection table used up, the table full, or no SNAT port. It ends some seconds after the
// last one.
type Pressure struct {
	Service   string  `json:"service"`
	SinceS    float64 `json:"since_s"`
	PerSecond float64 `json:"per_second"` // such new connections, over the last seconds
	FoundFull uint64  `json:"found_full"` // all of them since it began: the sum of these three:
	// Displacing ones have taken the place of others, which were unproven or had ended.
	Displacing uint64 `json:"displacing"`
	Refused    uint64 `json:"refused"`   // dropped as table_full or snat_exhausted
	Untracked  uint64 `json:"untracked"` // forwarded by a hash, without an entry
	// Sources are the busiest prefixes that they come from, a /24 or /48 each, the busiest first.
	// Empty: none has more than a few per cent, as if the sources were forged.
	Sources []Source `json:"sources"`
}

// Source is a source prefix, and its part of all such new connections, 0 to 1.
type Source struct {
	Prefix string  `json:"prefix"`
	Share  float64 `json:"share"`
}

// String returns the figures without Service and SinceS: "6000 new connections/s find no free
// entry: 71990 displaced others, 10 refused; from 203.0.113.0/24 (45%)".
func (p *Pressure) String() string {
	words := []string{fmt.Sprintf("%d displaced others", p.Displacing)}
	if p.Refused > 0 {
		words = append(words, fmt.Sprintf("%d were refused", p.Refused))
	}
	if p.Untracked > 0 {
		words = append(words, fmt.Sprintf("%d went untracked", p.Untracked))
	}
	return fmt.Sprintf("%.0f new connections/s find no free entry: %s; %s", p.PerSecond, strings.Join(words, ", "), p.SourcesText())
}

// SourcesText returns where the connections come from: "from 203.0.113.0/24 (45%)".
func (p *Pressure) SourcesText() string { return sourcesText(p.Sources) }

func sourcesText(sources []Source) string {
	var words []string
	for _, s := range sources {
		words = append(words, fmt.Sprintf("%s (%.0f%%)", s.Prefix, 100*s.Share))
	}
	if len(words) == 0 {
		return "from many prefixes"
	}
	return "from " + strings.Join(words, ", ")
}

// FirstPackets describes the first packets of a service that a hash forwards without an entry
// (scheduler mh in tun and dr), while they are 1000 a second or more.
type FirstPackets struct {
	Service   string  `json:"service"`
	SinceS    float64 `json:"since_s"`
	PerSecond float64 `json:"per_second"` // over the last seconds
	// Alone is the part of them, 0 to 1, that no second packet of the client has followed. Of UDP,
	// where one datagram may be all that a client says, it means little.
	Alone float64 `json:"alone"`
	// Flood: the service has the alarm syn_flood.
	Flood   bool     `json:"flood"`
	Sources []Source `json:"sources"` // as those of Pressure
}

// String returns what is said of first packets besides the service and the time.
func (f *FirstPackets) String() string {
	return fmt.Sprintf("%.0f new clients/s, %.0f%% of them with one packet only; %s", f.PerSecond, 100*f.Alone, sourcesText(f.Sources))
}
