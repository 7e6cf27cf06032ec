package main

import (
	"fmt"
	"math"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"

	"sluice/engine/cpu"
	"sluice/pipeline/service"
	"sluice/rings"
)

// longer is the factor by which the rounds of several workers are longer: until all of them are at
// work, and are so with warm caches, counts less.
const longer = 5

// scalingGoal is how much more two workers are to carry than one.
const scalingGoal = 1.9

// flowsPerWorker is the number of established flows of each worker.
const flowsPerWorker = 100_000

// manyCores measures what one core alone cannot show: two workers beside one, and a frame's way
// between them.
func manyCores(match *regexp.Regexp, rounds, packets, batch int) ([]result, error) {
	allowed, err := cpu.Allowed()
	if err != nil {
		return nil, err
	}
	if len(allowed) < 2 {
		fmt.Println("workers, handover: skipped, they need two CPUs")
		return nil, nil
	}
	var results []result
	if match.MatchString("workers/nat/4") {
		rows, err := workers(allowed[:2], (rounds+longer-1)/longer, packets*longer, batch)
		if err != nil {
			return nil, err
		}
		results = append(results, rows...)
	}
	if match.MatchString("handover") {
		results = append(results, handover(allowed[:2], rounds, packets, batch))
	}
	more, err := twoOwners(match, allowed[:2], rounds, packets, batch)
	return append(results, more...), err
}

// workers measures one worker alone, two of one process, and two that share nothing at all, in
// turn. The last say what the machine can do: CPUs that share a core, its caches or its clock are
// slower together than alone.
func workers(cpus []int, rounds, packets, batch int) ([]result, error) {
	together, err := newTeam(newCrew(2), []int{0, 1}, batch)
	if err != nil {
		return nil, err
	}
	defer together.close()
	var apart team
	defer func() { apart.close() }()
	for range cpus {
		one, err := newTeam(newCrew(1), []int{0}, batch)
		if err != nil {
			return nil, err
		}
		apart = append(apart, one...)
	}
	var alone, two, independent []float64
	for turn := 0; turn == 0 || turn <= morePasses && medianRatio(two, alone) < scalingGoal; turn++ {
		for range rounds {
			alone = append(alone, apart[:1].run(cpus, packets))
			two = append(two, together.run(cpus, packets))
			independent = append(independent, apart.run(cpus, packets))
		}
	}
	row := func(name string, n int, mpps []float64) result {
		r := result{Name: name, Mode: service.NAT.String(), Family: 4, Flows: n * flowsPerWorker, Workers: n}
		for i := range mpps {
			r.ns = append(r.ns, 1000/mpps[i])
		}
		if n > 1 {
			r.RatioToOne, r.RatioToIndependent = medianRatio(mpps, alone), medianRatio(mpps, independent)
			if name == "workers" {
				r.RatioGoal = scalingGoal
			}
			fmt.Printf("%s: %.2f times one worker, %.2f times two that share nothing\n", name, r.RatioToOne, r.RatioToIndependent)
		}
		r.conclude()
		r.Mpps = round1(1000 / r.Median)
		return r
	}
	return []result{row("workers", 1, alone), row("workers", 2, two), row("independent", 2, independent)}, nil
}

// team is labs that run at once, each on a CPU of its own.
type team []*lab

func newTeam(c *crew, members []int, batch int) (t team, err error) {
	for _, worker := range members {
		l, err := newWorkerLab(c, worker, 4, service.NAT, 2*flowsPerWorker, batch)
		if err == nil {
			t = append(t, l)
			err = l.own(c, worker, flowsPerWorker)
		}
		if err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func (t team) close() {
	for _, l := range t {
		l.close()
	}
}

// run returns the packets per microsecond of all workers together, while all of them run.
func (t team) run(cpus []int, packets int) (mpps float64) {
	ns := make([]float64, len(t))
	onCPUs(cpus[:len(t)], func(i int) { ns[i] = t[i].run(flowsPerWorker, packets) })
	for _, n := range ns {
		mpps += 1000 / n
	}
	return mpps
}

// onCPUs runs f once on each CPU, all at once, and waits for them.
func onCPUs(cpus []int, f func(i int)) {
	var running sync.WaitGroup
	for i, number := range cpus {
		running.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its CPU affinity
			if err := cpu.Pin(number); err != nil {
				panic(err) // it is one of those allowed
			}
			f(i)
		})
	}
	running.Wait()
}

// handover measures a descriptor's way over a hand-over ring, from one CPU to the other, in
// batches: what pushing and popping it cost the two workers together.
func handover(cpus []int, rounds, packets, batch int) result {
	r := result{Name: "handover", Family: 4, Workers: 2, BudgetNs: handoverBudget}
	for range rounds {
		in, out := rings.NewSPSC[rings.Desc](4096)
		move := [2]func([]rings.Desc) int{in.Push, out.Pop}
		var spent [2]lab
		onCPUs(cpus, func(i int) {
			side, descs := &spent[i], make([]rings.Desc, batch)
			side.size = batch
			for done := 0; done < packets; {
				start := time.Now()
				n := move[i](descs[:min(batch, packets-done)])
				// A partial or empty batch is not counted: workers do not poll that early.
				if n == batch {
					side.times = append(side.times, time.Since(start))
				}
				done += n
			}
		})
		r.ns = append(r.ns, spent[0].mean()+spent[1].mean())
	}
	r.conclude()
	return r
}

// medianRatio returns the middle one of the rounds' ratios, to two places.
func medianRatio(these, those []float64) float64 {
	var ratios []float64
	for i := range these {
		ratios = append(ratios, these[i]/those[i])
	}
	slices.Sort(ratios)
	return math.Round(ratios[len(ratios)/2]*100) / 100
}
