package tables

import (
	"crypto/sha256"
	"slices"

	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// SchedulerCache remembers the scheduler of each service, so that a table made anew because some
// neighbour changed doesn't build every consistent-hash table again, nor look like a change to
// round robin.
type SchedulerCache struct {
	last    map[service.Key]cachedPool
	hashKey string
	builder *sched.Builder
}

type cachedPool struct {
	scheduler  sched.Scheduler
	name       string
	candidates []sched.Candidate
}

func NewSchedulerCache() *SchedulerCache {
	return &SchedulerCache{last: make(map[service.Key]cachedPool)}
}

func (c *SchedulerCache) scheduler(k service.Key, name string, candidates []sched.Candidate, hashKey string) (sched.Scheduler, error) {
	if c.builder == nil || c.hashKey != hashKey {
		c.builder, c.hashKey = sched.NewBuilder(HashKey(hashKey)), hashKey
		clear(c.last)
	}
	if have, ok := c.last[k]; ok && have.name == name && slices.Equal(have.candidates, candidates) {
		return have.scheduler, nil
	}
	s, err := c.builder.New(name, candidates)
	if err == nil {
		c.last[k] = cachedPool{s, name, candidates}
	}
	return s, err
}

// forget drops what services that are gone had, and, when they have become many, the
// consistent-hash tables of pools that are gone.
func (c *SchedulerCache) forget(configured map[service.Key]bool) {
	for k := range c.last {
		if !configured[k] {
			delete(c.last, k)
		}
	}
	if c.builder != nil && c.builder.Len() > 2*len(configured)+16 {
		c.builder.Sweep()
	}
}

// HashKey is what mh hashes with for a hash_key of the file.
func HashKey(hashKey string) [16]byte {
	digest := sha256.Sum256([]byte(hashKey))
	return [16]byte(digest[:16])
}
