package sched

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/dchest/siphash"

	"sluice/pipeline/counter"
)

// Explanation is what a scheduler decides by, in words.
type Explanation struct {
	Rule    string   // one line: what was compared, and the result
	Figures []string // by candidate: what was compared, "" if nothing
}

// Explain returns what Pick decides by, given the same arguments, and changes nothing. name returns
// the name of a candidate by its index.
func Explain(s Scheduler, st State, loads *counter.Loads, k *Key, name func(i int) string) Explanation {
	switch s := s.(type) {
	case *rr:
		return s.explain(st, name)
	case *wrr:
		return s.explain(st)
	case *lc:
		return least("least connections, active ones counting 256 times as much as inactive ones", s.servers, loads,
			func(v *server, l counter.Load) string { return fmt.Sprint(overhead(l)) })
	case *wlc:
		return least("least connections per weight, active ones counting 256 times as much as inactive ones", s.servers, loads,
			func(v *server, l counter.Load) string { return fmt.Sprintf("%d/%d", overhead(l), v.weight) })
	case *sed:
		return least("shortest expected delay: active connections, the new one included, per weight", s.servers, loads, delay)
	case *nq:
		return least("never queue: the first one without active connections, else shortest expected delay", s.servers, loads, delay)
	case *sh:
		return s.buckets.explain("source", k.Client, k.IPv4)
	case *dh:
		return s.buckets.explain("destination", k.VIP, k.IPv4)
	case *mh:
		return s.explain(k)
	case *random:
		return s.lottery.explain("at random, in proportion to the weights: the next draw")
	case *p2c:
		return s.lottery.explain("the less loaded of two random ones: the next draws")
	}
	return Explanation{}
}

func delay(v *server, l counter.Load) string { return fmt.Sprintf("%d/%d", l.Active+1, v.weight) }

// least lists what a scheduler compares that walks over all servers.
func least(rule string, servers []server, loads *counter.Loads, figure func(*server, counter.Load) string) Explanation {
	w := Explanation{Rule: rule}
	for i := range servers {
		v := &servers[i]
		l := loads.Of(v.id)
		w.set(int(v.index), fmt.Sprintf("%s (%d active, %d inactive)", figure(v, l), l.Active, l.Inactive))
	}
	return w
}

func (w *Explanation) set(candidate int, figure string) {
	for len(w.Figures) <= candidate {
		w.Figures = append(w.Figures, "")
	}
	w.Figures[candidate] = figure
}

func (s *rr) explain(st State, name func(int) string) Explanation {
	after := "from the head of the list"
	for i, id := range s.ids {
		if st.Pos > 0 && id == st.Last {
			after = "behind " + name(i) + ", which this worker served last"
		}
	}
	return Explanation{Rule: fmt.Sprintf("round robin over %d backends, latest added first, %s", len(s.ids), after)}
}

func (s *wrr) explain(st State) Explanation {
	if st.Seen != s.seen {
		s.adopt(&st)
	}
	return Explanation{Rule: fmt.Sprintf("weighted round robin over %d backends: position %d, this pass serves weights of %d and more",
		len(s.weights), st.Pos, st.CW)}
}

func (b *buckets) explain(of string, addr [2]uint64, ipv4 bool) Explanation {
	bucket := hash32(fold(addr, ipv4), bucketBits)
	w := Explanation{Rule: fmt.Sprintf("hash of the %s address: bucket %d of %d", of, bucket, len(b.all))}
	switch {
	case b.all[bucket] >= 0:
	case len(b.usable) == 0:
		w.Rule += ", and no backend may take a new connection"
	default:
		w.Rule += fmt.Sprintf(": its backend may take no new connection, so bucket %d of the %d usable ones", b.second(fold(addr, ipv4)), len(b.usable))
	}
	return w
}

// explain follows Pick.
func (s *mh) explain(k *Key) Explanation {
	if len(s.rivals) == 0 {
		return Explanation{Rule: "Maglev hash of the client address: no backend may take a new connection"}
	}
	var client [16]byte
	binary.BigEndian.PutUint64(client[:8], k.Client[0])
	binary.BigEndian.PutUint64(client[8:], k.Client[1])
	h := siphash.Hash(s.k0, s.k1, client[:])
	for tries := range 1 + probes {
		slot, _ := bits.Mul64(h, maglevSlots)
		if s.choices[s.table[slot]] >= 0 {
			rule := fmt.Sprintf("Maglev hash of the client address: slot %d of %d", slot, maglevSlots)
			if tries > 0 {
				rule += fmt.Sprintf(", after %d with backends that may take no new connection", tries)
			}
			return Explanation{Rule: rule}
		}
		h = mix(h + goldenGamma)
	}
	return Explanation{Rule: fmt.Sprintf("Maglev hash of the client address: %d slots with backends that may take no new connection, then a draw by weight", 1+probes)}
}

func (l *lottery) explain(rule string) Explanation {
	w := Explanation{Rule: rule}
	for i := range l.servers {
		w.set(int(l.servers[i].index), fmt.Sprintf("weight %d of %d", l.servers[i].weight, l.ends[len(l.ends)-1]))
	}
	return w
}
