package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"

	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// result is one row of pipeline.json.
type result struct {
	Name            string  `json:"name"`
	Mode            string  `json:"mode"`
	Family          int     `json:"family"`
	Flows           int     `json:"flows"`
	NsPerPacket     float64 `json:"ns_per_packet"` // the fastest round
	Median          float64 `json:"median"`        // of the rounds
	Max             float64 `json:"max"`
	AllocsPerPacket float64 `json:"allocs_per_packet"`
	BudgetNs        float64 `json:"budget_ns,omitempty"`
	TickUs          float64 `json:"tick_us,omitempty"` // sweep: microseconds per tick
	BudgetUs        float64 `json:"budget_us,omitempty"`
	Met             *bool   `json:"met,omitempty"` // the budget

	Workers            int     `json:"workers,omitempty"`              // at once; absent: 1
	Mpps               float64 `json:"mpps,omitempty"`                 // of all of them together
	RatioToOne         float64 `json:"ratio_to_one,omitempty"`         // of mpps, to one worker
	RatioGoal          float64 `json:"ratio_goal,omitempty"`           // for it, at least
	RatioToIndependent float64 `json:"ratio_to_independent,omitempty"` // to isolated workers
	// RatioToReceiver: of ns, to workers without hand-over
	RatioToReceiver float64 `json:"ratio_to_receiver,omitempty"`

	// Ratio: of ns, to those of the row RatioOf with this mode, family and number of flows.
	RatioOf   string  `json:"ratio_of,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
	RatioMost float64 `json:"ratio_most,omitempty"` // goal for it

	Reloads *reloads `json:"reloads,omitempty"` // of the configuration; nil: none

	ns []float64 // of all rounds
}

// opened is the capacity of the table that new connections are measured on.
const opened = 1_000_000

// newBudget is the goal for a new connection over IPv4, in ns, the removal of an expired one
// included.
const newBudget = 200

// handoverBudget is the goal for a descriptor's way to another worker, in ns.
const handoverBudget = 5

// budgets are the goals over IPv4, in ns per packet of an established connection, by number of
// flows. They were set for NAT; tun and dr are not to be slower.
var budgets = map[int]float64{1_000: 40, 100_000: 60, 1_000_000: 80, 10_000_000: 120}

// goal returns the goal of a mode and family, given that of NAT over IPv4 in ns: over IPv6 1.3
// times as much. Fullnat, which does twice the work, has none.
func goal(mode service.Mode, family int, ns float64) float64 {
	switch {
	case mode == service.FullNAT:
		return 0
	case family == 6:
		return round1(1.3 * ns)
	}
	return ns
}

// checkGoal notes whether the row reaches its goal, if it has one.
func (r *result) checkGoal() {
	met := r.NsPerPacket <= r.BudgetNs
	switch {
	case r.Reloads != nil:
		met = r.Reloads.AddedUs <= r.BudgetUs
	case r.BudgetUs > 0:
		met = r.TickUs <= r.BudgetUs
	case r.Ratio > 0:
		met = r.Ratio <= r.RatioMost
	case r.RatioGoal > 0:
		met = r.RatioToOne >= r.RatioGoal
	case r.BudgetNs == 0:
		return
	}
	r.Met = &met
}

// verdict sums up which rows reach their goals.
func verdict(results []result) string {
	goals, missed := 0, []string(nil)
	for i := range results {
		if r := &results[i]; r.Met != nil {
			if goals++; !*r.Met {
				missed = append(missed, fmt.Sprintf("%s/%s/%d/%d", r.Name, r.Mode, r.Family, r.Flows))
			}
		}
	}
	if len(missed) == 0 {
		return fmt.Sprintf("all %d goals are reached", goals)
	}
	return fmt.Sprintf("%d of %d goals are reached, but not by %s", goals-len(missed), goals, strings.Join(missed, ", "))
}

func pipelineVerb(args []string) error {
	flags := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	out := flags.String("out", "bench/out/pipeline.json", "file for the results")
	rounds := flags.Int("rounds", 25, "rounds per row and pass; short ones find the moments in which the machine does nothing else")
	passes := flags.Int("passes", 2, "passes over all rows; the fastest round of a row counts, since nothing but disturbance differs")
	extra := flags.Int("more", morePasses, "most passes more over the rows that miss their goal")
	packets := flags.Int("packets", 400_000, "packets per round")
	batch := flags.Int("batch", 64, "packets per batch")
	only := flags.String("run", "", "regular expression: only rows like established/nat/4/100000")
	profile := flags.String("cpuprofile", "", "file for a CPU profile")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fmt.Printf("%-12s %-7s %6s %10s %9s %9s %9s %7s %7s\n", "name", "mode", "family", "flows", "ns/pkt", "median", "max", "allocs", "budget")
	rows := oneCore(match, *rounds, *packets, *batch)
	for pass := range *passes + *extra {
		for _, w := range rows {
			if pass >= *passes && (w.Met == nil || *w.Met) {
				continue
			}
			if err := w.again(); err != nil {
				return err
			}
		}
	}
	relate(rows)
	var results []result
	for _, w := range rows {
		results = append(results, w.result)
	}
	more, err := manyCores(match, *rounds, *packets, *batch)
	if err != nil {
		return err
	}
	results = append(results, more...)
	if more, err = reloading(match); err != nil {
		return err
	}
	results = append(results, more...)
	if more, err = rteHash(match, *rounds); err != nil {
		return err
	}
	results = append(results, more...)
	fmt.Println(verdict(results))
	if err := writeJSON(*out, thisMachine(), results); err != nil {
		return err
	}
	fmt.Println("written to", *out)
	return nil
}

// morePasses is how often what misses its goal is measured once more, unless the operator says
// otherwise: what disturbs the machine only makes it slower, and may last longer than a pass takes
// for a row.
const morePasses = 4

// row is a line of the results that can be measured again and again.
type row struct {
	result
	measure func(r *result) error // adds to r.ns, or sets r.TickUs
}

// again measures the row once more. All rounds so far count.
func (w *row) again() error {
	r := w.result
	if err := w.measure(&r); err != nil {
		return err
	}
	r.AllocsPerPacket = max(r.AllocsPerPacket, w.AllocsPerPacket)
	if w.TickUs > 0 {
		r.TickUs = min(r.TickUs, w.TickUs)
	}
	r.conclude()
	w.result = r
	return nil
}

// oneCore lists what one core measures, as far as it matches.
func oneCore(match *regexp.Regexp, rounds, packets, batch int) (rows []*row) {
	add := func(name string, mode service.Mode, family, flows int, budgetNs, budgetUs float64, measure func(r *result) error) {
		if match.MatchString(fmt.Sprintf("%s/%s/%d/%d", name, mode, family, flows)) {
			rows = append(rows, &row{result{Name: name, Mode: mode.String(), Family: family, Flows: flows, BudgetNs: budgetNs, BudgetUs: budgetUs}, measure})
		}
	}
	// against adds a row with a goal for its ratio to another.
	against := func(name string, mode service.Mode, family, flows int, of string, most float64, measure func(r *result) error) {
		n := len(rows)
		add(name, mode, family, flows, 0, 0, measure)
		for _, w := range rows[n:] {
			w.RatioOf, w.RatioMost = of, most
		}
	}
	flood := func(name string, mode service.Mode, family int, measure func(r *result, mode service.Mode, rounds, packets, batch int) error) {
		for _, flows := range []int{100_000, 1_000_000} {
			against(name, mode, family, flows, "established", floodMost, func(r *result) error { return measure(r, mode, rounds, packets, batch) })
		}
	}
	for _, mode := range []service.Mode{service.NAT, service.TUN, service.DR, service.FullNAT} {
		for _, family := range []int{4, 6} {
			for _, flows := range []int{1_000, 100_000, 1_000_000, 10_000_000} {
				if mode == service.FullNAT && flows > 1_000_000 {
					break
				}
				add("established", mode, family, flows, goal(mode, family, budgets[flows]), 0, func(r *result) error {
					return midway(r, mode, false, rounds, packets, batch)
				})
			}
			if mode == service.NAT || mode == service.FullNAT {
				for _, flows := range []int{1_000, 100_000, 1_000_000} {
					add("reply", mode, family, flows, 0, 0, func(r *result) error { return midway(r, mode, true, rounds, packets, batch) })
				}
			}
			add("new", mode, family, opened, goal(mode, family, newBudget), 0, func(r *result) error { return opening(r, mode, rounds, batch) })
			if mode == service.TUN {
				flood("untracked", mode, family, untracked)
				against("adopted", mode, family, opened, "new", adoptMost, func(r *result) error { return openingHashed(r, mode, rounds, batch, packet.ACK) })
				add("new-hashed", mode, family, opened, 0, 0, func(r *result) error {
					return openingHashed(r, mode, rounds, batch, packet.SYN, packet.ACK)
				})
			}
			if mode == service.NAT {
				flood("no_service", mode, family, noService)
				flood("table_full", mode, family, tableFull)
				for how, name := range []string{"new-random", "new-listed"} {
					add(name, mode, family, opened, 0, 0, func(r *result) error { return openingRandom(r, mode, lists(how), rounds, batch) })
				}
				against("denied", mode, family, opened, "established", floodMost, func(r *result) error { return refusing(r, mode, rounds, packets, batch) })
				add("to_kernel", mode, family, opened, 0, 0, func(r *result) error { return toKernel(r, rounds, packets, batch) })
				add("fragments", mode, family, 1_000, 0, 0, func(r *result) error { return fragments(r, mode, rounds, packets, batch) })
				add("sweep", mode, family, opened, 0, sweepBudgetUs, func(r *result) error { return sweeping(r, mode, rounds, batch) })
			}
		}
	}
	return rows
}

// conclude sums up what was measured, and prints it.
func (r *result) conclude() {
	r.summarize()
	r.checkGoal()
	show(r)
}

// show prints a row.
func show(r *result) {
	budget := ""
	if r.BudgetNs > 0 {
		budget = fmt.Sprintf("%.0f", r.BudgetNs)
	}
	if r.TickUs > 0 {
		fmt.Printf("%-12s %-7s %6d %10d %9.1f us, the most for which it keeps a batch waiting: goal %.0f\n", r.Name, r.Mode, r.Family, r.Flows, r.TickUs, r.BudgetUs)
		return
	}
	fmt.Printf("%-12s %-7s %6d %10d %9.1f %9.1f %9.1f %7.4f %7s\n", r.Name, r.Mode, r.Family, r.Flows, r.NsPerPacket, r.Median, r.Max, r.AllocsPerPacket, budget)
}

// midway measures packets of random ones of the row's established flows: clients', or backends'
// replies.
func midway(r *result, mode service.Mode, reply bool, rounds, packets, batch int) error {
	family, flows := r.Family, r.Flows
	l, err := newLab(family, mode, flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.open(flows); err != nil {
		return err
	}
	l.reply = reply
	l.run(flows, packets/4)
	allocs := allocations(func() {
		for range rounds {
			r.ns = append(r.ns, l.run(flows, packets))
		}
	})
	r.AllocsPerPacket = perUnit(allocs, rounds*packets)
	return nil
}

// opening measures connections from SYN to installed entry in a table that stays three quarters
// full: an eighth of the capacity opens in every ten seconds of the pipeline's time and lives for
// the sixty of SYN_RECV. Sweeping out the expired ones is part of the time.
func opening(r *result, mode service.Mode, rounds, batch int) error {
	l, err := newLab(r.Family, mode, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	return l.churns(r, rounds, packet.SYN)
}

// synTimeoutMs is the timeout of SYN_RECV.
const synTimeoutMs = 60_000

// churns measures new connections when the table is as full as it gets. tcpFlags are those of their
// first packets.
func (l *lab) churns(r *result, rounds int, tcpFlags ...byte) (err error) {
	step := r.Flows / 8
	at := 0
	for range 6 {
		if err := l.churn(at, step, synTimeoutMs/6, tcpFlags...); err != nil {
			return err
		}
		at += step
	}
	allocs := allocations(func() {
		for range rounds {
			l.times = l.times[:0]
			if err = l.churn(at, step, synTimeoutMs/6, tcpFlags...); err != nil {
				return
			}
			r.ns = append(r.ns, l.mean())
			at += step
		}
	})
	r.AllocsPerPacket = perUnit(allocs, rounds*step*len(tcpFlags))
	return err
}

// allocations counts the heap objects that f makes.
func allocations(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// summarize goes over the rounds' times. The fastest round is the figure: the work is the same each
// time, and what else the machine does - its other tenants above all, who share cores, caches and
// clock - can only make it slower.
func (r *result) summarize() {
	if len(r.ns) == 0 {
		return
	}
	r.ns = slices.Sorted(slices.Values(r.ns))
	r.NsPerPacket, r.Median, r.Max = round1(r.ns[0]), round1(r.ns[len(r.ns)/2]), round1(r.ns[len(r.ns)-1])
}

func round2(x float64) float64 { return math.Round(x*100) / 100 }

func round1(x float64) float64 { return math.Round(x*10) / 10 }

// perUnit divides, to four places: the runtime's own odd allocation shows as 0.
func perUnit(n uint64, units int) float64 {
	return math.Round(float64(n)/float64(units)*1e4) / 1e4
}
