package tables

import (
	"crypto/sha256"
	"slices"

	"sluice/pipeline/sched"
)

// schedulers are those of the services in the tables before, so that tables for a changed neighbour
// do not build every consistent-hash table again, nor look like a change to round robin. It is an
// immutable value.
type schedulers struct {
	hashKey string
	builder *sched.Builder    // nil: none yet
	cached  []cachedScheduler // by service number; the zero value for those that are not configured
}

type cachedScheduler struct {
	scheduler  sched.Scheduler
	name       string
	candidates []sched.Candidate
}

// schedulerUpdate makes the schedulers of the next tables from those of the tables before. What is
// not changed is shared.
type schedulerUpdate struct {
	schedulers
	before *schedulers
	forked bool // builder is not that of before
	own    bool // cached is not that of before
}

// update begins an update. With a new configuration nothing is retained of a service that is not
// asked for.
func (c *schedulers) update(services int, hashKey string, changed bool) *schedulerUpdate {
	u := &schedulerUpdate{schedulers: *c, before: c}
	if c.builder == nil || c.hashKey != hashKey {
		u.schedulers = schedulers{hashKey: hashKey, builder: sched.NewBuilder(HashKey(hashKey))}
		u.before = &schedulers{}
		u.forked, changed = true, true
	}
	if changed {
		u.cached, u.own = make([]cachedScheduler, services), true
	}
	return u
}

// scheduler returns the scheduler of a service. The candidates are copied if they are retained.
func (u *schedulerUpdate) scheduler(service uint32, name string, candidates []sched.Candidate) (sched.Scheduler, error) {
	if int(service) < len(u.before.cached) {
		have := u.before.cached[service]
		if have.scheduler != nil && have.name == name && slices.Equal(have.candidates, candidates) {
			if u.own {
				u.cached[service] = have
			}
			return have.scheduler, nil
		}
	}
	if !u.forked {
		u.builder, u.forked = u.builder.Clone(), true
	}
	s, err := u.builder.New(name, candidates)
	if err != nil {
		return nil, err
	}
	if !u.own {
		u.cached, u.own = slices.Clone(u.cached), true
	}
	u.cached[service] = cachedScheduler{s, name, slices.Clone(candidates)}
	return s, nil
}

// finish ends the update. When they have become many, it drops the consistent-hash tables that no
// longer have candidates.
func (u *schedulerUpdate) finish(configured int) schedulers {
	if u.forked && u.builder.Len() > 2*configured+16 {
		u.builder.Sweep()
	}
	return u.schedulers
}

// HashKey returns what mh hashes with for a hash_key of the configuration.
func HashKey(hashKey string) [16]byte {
	digest := sha256.Sum256([]byte(hashKey))
	return [16]byte(digest[:16])
}
