package flooding

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"sluice/tools/netlab/backend"
	"sluice/tools/netlab/loadgen"
)

// RunIfChild runs the clients and servers of a measurement, which are this program, too.
func RunIfChild() {
	backend.RunIfChild()
	loadgen.RunIfChild()
}

// Settings configures a run.
type Settings struct {
	Program string         // path of sluice
	Time    time.Duration  // of each flood
	Only    *regexp.Regexp // of the names of cases; nil: all
	Rate    float64        // packets per second; 0: the highest that leaves IdleGoal idle
	Log     func(format string, args ...any)
}

// IdleGoal is the part of the CPUs that the highest rate leaves idle.
const IdleGoal = 0.3

// Kinds of floods.
const (
	kindSYN   = "syn"
	kindUDP   = "udp"
	kindChurn = "churn" // real connections that open and close
)

// Case is one measurement.
type Case struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Mode    string `json:"mode"`
	Workers int    `json:"workers"`

	Rate    float64 `json:"rate"`      // packets or connections per second; 0: as Settings.Rate
	Entries int     `json:"entries"`   // of the table; 0: what the flood fills in a second
	Live    int     `json:"live"`      // connections that last, at the other service
	PerS    int     `json:"per_s"`     // new connections to the other service
	OwnPerS int     `json:"own_per_s"` // new connections to the flooded service
}

// Modes in the order of the report.
var modes = []string{"nat", "fullnat", "tun", "dr"}

// Cases lists all cases.
func Cases() (all []Case) {
	add := func(c Case) {
		c.Name = fmt.Sprintf("%s/%s/%d", c.Kind, c.Mode, c.Workers)
		if c.Entries > 0 {
			c.Name += fmt.Sprintf("/%d", c.Entries)
		}
		all = append(all, c)
	}
	for _, kind := range []string{kindSYN, kindUDP} {
		for _, mode := range modes {
			for _, workers := range []int{1, 2} {
				add(Case{Kind: kind, Mode: mode, Workers: workers, Live: 2000, PerS: 200, OwnPerS: 20})
			}
		}
	}
	for _, mode := range modes {
		for _, kind := range []string{kindSYN, kindUDP} {
			add(Case{Kind: kind, Mode: mode, Workers: 1, Rate: 6000, Entries: 1024, Live: 200, PerS: 50, OwnPerS: 20})
		}
	}
	for _, mode := range modes {
		add(Case{Kind: kindChurn, Mode: mode, Workers: 1, Rate: 1500, Entries: 4096, Live: 1000, PerS: 100, OwnPerS: 20})
	}
	add(Case{Kind: kindSYN, Mode: "nat", Workers: 1, Rate: 6000, Entries: 4096, Live: 100, PerS: 20, OwnPerS: 20})
	return all
}

// Run measures the cases that Only selects. After an error the results of those before it are
// valid.
func Run(ctx context.Context, s Settings) (all []Result, err error) {
	for _, c := range Cases() {
		if s.Only != nil && !s.Only.MatchString(c.Name) {
			continue
		}
		if c.Rate == 0 {
			c.Rate = s.Rate
		}
		if c.Rate == 0 {
			if c.Rate, err = s.search(ctx, c); err != nil {
				return all, fmt.Errorf("%s: searching the rate: %w", c.Name, err)
			}
		}
		r, err := s.measure(ctx, c)
		if err != nil {
			return all, fmt.Errorf("%s: %w", c.Name, err)
		}
		all = append(all, r)
		s.Log("%s", r.String())
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no case is selected")
	}
	return all, nil
}
