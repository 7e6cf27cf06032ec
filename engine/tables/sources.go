package tables

import (
	"slices"

	"sluice/conf"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// sources are the counts of connections by source. When what is counted changes, they begin from
// zero: a count without the ends of its connections would refuse clients for ever.
type sources struct {
	counts  *counter.Sources // nil: no service has such limits
	counted []counted
}

// counted is what the counts of a service depend on.
type counted struct {
	service          service.Key
	connections      bool
	prefix4, prefix6 int
	sorry            service.BackendKey
}

// of returns the counts for a configuration.
func (s sources) of(config *conf.Config) sources {
	var next sources
	for i := range config.Services {
		v := &config.Services[i]
		l := &v.Limits
		if l.SourceConnections == 0 && l.SourceNewPerSecond == 0 {
			continue
		}
		c := counted{service: v.Key, connections: l.SourceConnections != 0, prefix4: l.SourcePrefix4, prefix6: l.SourcePrefix6}
		if v.Sorry != nil {
			c.sorry = v.Sorry.Key
		}
		next.counted = append(next.counted, c)
	}
	switch {
	case slices.Equal(next.counted, s.counted):
		return s
	case len(next.counted) > 0:
		next.counts = counter.NewSources()
	}
	return next
}
