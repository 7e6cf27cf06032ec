package tables

import (
	"crypto/sha256"
	"slices"
	"time"

	"sluice/pipeline"
	"sluice/pipeline/sched"
)

// SettleTime is for how long after a change the choice before it is kept for a service that adopts
// connections: as long as a handshake may take (tcp_syn_recv).
const SettleTime = time.Minute

// schedulers are those of the services in the tables before, so that tables for a changed neighbour
// do not build every consistent-hash table again, nor look like a change to round robin. It is an
// immutable value.
type schedulers struct {
	hashKey string
	builder *sched.Builder // nil: none yet
	// cached: by service number; the zero value for those that are not configured
	cached  []cachedScheduler
	settles time.Time // the first of until in cached; zero: no service has an earlier choice
}

type cachedScheduler struct {
	scheduler  sched.Scheduler
	kind       schedulerKind
	candidates []sched.Candidate
	backends   []uint32
	// earlier: what a service that adopts chose before the first of the changes that were less than
	// SettleTime apart; nil: none were lately
	earlier *pipeline.Choice
	until   time.Time // with earlier: the time to forget it
}

// schedulerKind is what a service asks for.
type schedulerKind struct {
	name  string
	ports bool // hash the client's port
	adopt bool // keep what was chosen before for a time
}

// schedulerUpdate makes the schedulers of the next tables from those of the tables before. What is
// not changed is shared.
type schedulerUpdate struct {
	schedulers
	before *schedulers
	now    time.Time
	forked bool // builder is not that of before
	own    bool // cached is not that of before
	rehash bool // the hash key has changed
}

// update begins an update. With a new configuration nothing is retained of a service that is not
// asked for.
func (c *schedulers) update(services int, hashKey string, changed bool, now time.Time) *schedulerUpdate {
	u := &schedulerUpdate{schedulers: *c, before: c, now: now}
	if c.builder == nil || c.hashKey != hashKey {
		u.schedulers = schedulers{hashKey: hashKey, builder: sched.NewBuilder(HashKey(hashKey))}
		u.forked, u.rehash, changed = true, true, true
	}
	if changed {
		u.cached, u.own = make([]cachedScheduler, services), true
	}
	return u
}

// scheduler sets the scheduler of a service that chooses among s.Backends, and what it chose from
// before. The candidates are copied if they are retained.
func (u *schedulerUpdate) scheduler(service uint32, s *pipeline.Service, kind schedulerKind, candidates []sched.Candidate) (err error) {
	var have cachedScheduler
	if int(service) < len(u.before.cached) {
		have = u.before.cached[service]
	}
	next := have
	if have.scheduler == nil || u.rehash || have.kind != kind || !slices.Equal(have.candidates, candidates) {
		if !u.forked {
			u.builder, u.forked = u.builder.Clone(), true
		}
		next = cachedScheduler{kind: kind, candidates: slices.Clone(candidates), backends: s.Backends}
		if next.scheduler, err = u.builder.NewHashed(kind.name, kind.ports, candidates); err != nil {
			return err
		}
		next.earlier, next.until = have.earlier, have.until
		if have.kind.adopt {
			if have.earlier == nil || !have.until.After(u.now) {
				next.earlier = &pipeline.Choice{Scheduler: have.scheduler, Backends: have.backends}
			}
			next.until = u.now.Add(SettleTime)
		}
	}
	if next.earlier != nil && !next.until.After(u.now) {
		next.earlier = nil
	}
	if !u.own && (next.scheduler != have.scheduler || next.earlier != have.earlier) {
		u.cached, u.own = slices.Clone(u.cached), true
	}
	if u.own {
		u.cached[service] = next
	}
	s.Scheduler, s.Earlier = next.scheduler, next.earlier
	return nil
}

// settled reports whether the service is to forget what was chosen before.
func (c *schedulers) settled(service uint32, now time.Time) bool {
	s := &c.cached[service]
	return s.earlier != nil && !s.until.After(now)
}

// SettlesAt returns when the next service is to forget what was chosen before a change. The zero
// time means never.
func (s *State) SettlesAt() time.Time { return s.schedulers.settles }

// without returns the numbers without those of backends in what was chosen before: they may get
// connections yet.
func (c *schedulers) without(numbers []uint32) []uint32 {
	if c.settles.IsZero() {
		return numbers
	}
	chosen := make(map[uint32]bool)
	for i := range c.cached {
		if e := c.cached[i].earlier; e != nil {
			for _, number := range e.Backends {
				chosen[number] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(numbers), func(number uint32) bool { return chosen[number] })
}

// finish ends the update. When they have become many, it drops the consistent-hash tables that no
// longer have candidates.
func (u *schedulerUpdate) finish(configured int) schedulers {
	if u.forked && u.builder.Len() > 2*configured+16 {
		u.builder.Sweep()
	}
	if u.own {
		u.settles = time.Time{}
		for i := range u.cached {
			if c := &u.cached[i]; c.earlier != nil && (u.settles.IsZero() || c.until.Before(u.settles)) {
				u.settles = c.until
			}
		}
	}
	return u.schedulers
}

// HashKey returns what mh hashes with for a hash_key of the configuration.
func HashKey(hashKey string) [16]byte {
	digest := sha256.Sum256([]byte(hashKey))
	return [16]byte(digest[:16])
}
