package sched

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// MaxWeight is the highest legal weight, the same as ipvsadm's.
const MaxWeight = 65535

// Candidate is a backend as a scheduler sees it. Candidates stand in IPVS's list order: latest
// added first (ip_vs_ctl.c adds at the head).
type Candidate struct {
	ID         uint32         // backend id, the index into counter.Loads; keeps naming the same backend over table swaps
	Weight     uint32         // 0: gets no new connections; at most MaxWeight
	LastWeight uint32         // last weight that was not 0 (mh only); 0: there never was one
	Up         bool           // false: gets no new connections, as IPVS treats an overloaded destination
	Key        netip.AddrPort // identity of the backend for mh, the same on every box
}

// usable reports whether the candidate may get a new connection.
func (c *Candidate) usable() bool { return c.Up && c.Weight > 0 }

// Key is what the hash schedulers choose by. Addresses are high and low half in host byte order;
// IPv4 is written as ::ffff:a.b.c.d and has IPv4 set.
type Key struct {
	Client, VIP         [2]uint64
	ClientPort, VIPPort uint16
	IPv4                bool
}

// State is a scheduler's memory, one per worker and service, owned by that worker. It outlives
// table swaps: each scheduler finds out by itself that the candidates are others than last time.
// The zero State is a fresh start. A State that another scheduler or another service wrote does no
// harm, but zeroing it is the better start.
type State struct {
	Seen uint64 // wrr: fingerprint of the list that Pos and CW belong to
	Rand uint64 // random, p2c: generator; give each worker another value, or all draw alike
	Last uint32 // rr: id of the backend at Pos-1
	Pos  uint32 // rr, wrr: list position to go on from; 0 is the head
	CW   uint32 // wrr: weight that the current pass requires
}

// Scheduler chooses a backend for a new connection. It is immutable and shared by all workers.
type Scheduler interface {
	// Pick returns an index into the candidates that the scheduler was made of, or -1 when it has
	// none to offer. It allocates nothing. st and k should live in memory that the worker keeps:
	// behind an interface, the address of a local variable would cost an allocation.
	Pick(st *State, loads *counter.Loads, k *Key) int
}

// New makes the scheduler of that name (service.Schedulers) over c, which it does not keep. hashKey
// is the secret of mh; boxes that share it choose alike. To make schedulers for many services or
// again and again, use a Builder.
func New(name string, c []Candidate, hashKey [16]byte) (Scheduler, error) {
	return NewBuilder(hashKey).New(name, c)
}

// New is like the function New, except that mh tables are shared.
func (b *Builder) New(name string, c []Candidate) (Scheduler, error) {
	for i := range c {
		if w := max(c[i].Weight, c[i].LastWeight); w > MaxWeight {
			return nil, fmt.Errorf("scheduler %s: backend %s has weight %d: at most %d is allowed",
				name, c[i].Key, w, MaxWeight)
		}
	}
	switch name {
	case "rr":
		return newRR(c), nil
	case "wrr":
		return newWRR(c), nil
	case "lc":
		return &lc{servers(c)}, nil
	case "wlc":
		return &wlc{servers(c)}, nil
	case "sed":
		return &sed{servers(c)}, nil
	case "nq":
		return &nq{servers(c)}, nil
	case "sh":
		return newSH(c), nil
	case "dh":
		return newDH(c), nil
	case "mh":
		return b.newMH(c)
	case "random":
		return &random{newLottery(c)}, nil
	case "p2c":
		return &p2c{newLottery(c)}, nil
	}
	return nil, fmt.Errorf("scheduler %q is not one of %s", name, strings.Join(service.Schedulers, ", "))
}

// server is a usable candidate, laid out for the schedulers that walk over all of them.
type server struct {
	id     uint32
	weight uint32
	index  int32 // into the candidates
}

// servers returns the usable candidates in list order.
func servers(c []Candidate) []server {
	var list []server
	for i := range c {
		if c[i].usable() {
			list = append(list, server{c[i].ID, c[i].Weight, int32(i)})
		}
	}
	return slices.Clip(list)
}

// overhead is the cost of a load in lc, wlc and p2c: an active connection counts as much as 256
// inactive ones (include/net/ip_vs.h, ip_vs_dest_conn_overhead). It is below 2^40+2^32, so times a
// weight it fits 64 bits.
func overhead(l counter.Load) uint64 { return uint64(l.Active)<<8 + uint64(l.Inactive) }
