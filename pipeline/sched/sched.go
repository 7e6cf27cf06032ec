package sched

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// MaxWeight is the highest allowed weight, the same as ipvsadm's.
const MaxWeight = 65535

// Candidate is a backend as a scheduler sees it. Candidates are in IPVS's list order: latest added
// first (ip_vs_ctl.c adds at the head).
type Candidate struct {
	ID         uint32 // backend id, the index into counter.Loads; the same in all tables
	Weight     uint32 // 0: gets no new connections; at most MaxWeight
	LastWeight uint32 // last weight that was not 0 (mh only); 0: none so far
	// Up: false: gets no new connections, as IPVS treats an overloaded destination
	Up  bool
	Key netip.AddrPort // identity of the backend for mh, the same on every host
}

// usable reports whether the candidate may get a new connection.
func (c *Candidate) usable() bool { return c.Up && c.Weight > 0 }

// Key is what the hash schedulers choose by. Addresses are their high and low half in host byte
// order; an IPv4 address is ::ffff:a.b.c.d and has IPv4 set.
type Key struct {
	Client, VIP         [2]uint64
	ClientPort, VIPPort uint16
	IPv4                bool
}

// State is a scheduler's state. It outlives tables: each scheduler detects by itself that its
// candidates have changed. The zero State is a new start. A State of another scheduler or service
// does no harm, but a zero one is the better start.
type State struct {
	// Turn: rr, wrr: how far it is through the list. All workers share it (counter.Turns): the
	// caller sets it before Pick, and publishes it afterwards.
	Turn uint64
	Rand uint64 // random, p2c: state of the generator; of one worker, and different in each
}

// Scheduler chooses a backend for a new connection. It is immutable; all workers use it.
type Scheduler interface {
	// Pick returns an index into the candidates that the scheduler was made of, or -1 if none is
	// usable. It does not allocate. st and k should not be local variables: passed through an
	// interface, their addresses would cost an allocation.
	Pick(st *State, loads *counter.Loads, k *Key) int

	// ByHash returns the usable candidate that a hash of the client names, -1 if none is usable:
	// the same one for all packets of a client, by weight, as long as the candidates stay. A
	// scheduler that is a hash names the one that Pick does.
	ByHash(hash uint64, k *Key) int

	// After returns the usable candidate that follows the one at index i in the list, going round,
	// for a connection that the picked one cannot have. It returns i if there is no other. Pick
	// returned i, or After did.
	After(i int) int

	// explain returns what Pick decides by, in words: see Explain. It may change a.st only.
	explain(a *asked) Explanation
}

// New returns the scheduler of that name (service.Schedulers) over c, which it does not retain.
// hashKey is the secret of mh; hosts with the same one choose alike. A Builder is faster for many
// services.
func New(name string, c []Candidate, hashKey [16]byte) (Scheduler, error) {
	return NewBuilder(hashKey).New(name, c)
}

// New is like the function New, except that mh tables are shared.
func (b *Builder) New(name string, c []Candidate) (Scheduler, error) {
	return b.NewHashed(name, false, c)
}

// NewHashed is New for a scheduler that hashes the client's port besides its address if ports is
// true. Only mh has a choice.
func (b *Builder) NewHashed(name string, ports bool, c []Candidate) (Scheduler, error) {
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
		return &lc{newRing(c)}, nil
	case "wlc":
		return &wlc{newRing(c)}, nil
	case "sed":
		return &sed{newRing(c)}, nil
	case "nq":
		return &nq{newRing(c)}, nil
	case "sh":
		return newSH(c), nil
	case "dh":
		return newDH(c), nil
	case "mh":
		return b.newMH(c, ports)
	case "random":
		return &random{newRing(c)}, nil
	case "p2c":
		return &p2c{newRing(c)}, nil
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
