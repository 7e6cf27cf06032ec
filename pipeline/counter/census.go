package counter

import "sync/atomic"

// census counts the unproven connections of each service, and all proven ones, over all workers, to
// bound the former. Each worker has a Tally of it, which publishes a difference only when it is a
// block, so that nearly all connections need no atomic operation. What a Tally reports is right to
// a block for each other worker.
type census struct {
	_        [cellsPerLine]uint64
	proven   atomic.Int64
	_        [cellsPerLine - 1]uint64
	unproven []atomic.Int32 // by service id
	// fullMs: by service id: when it last had no entry for a new connection; 0: never
	fullMs  []atomic.Int64
	entries int
	block   int32
}

// Tally is what one worker has not published yet of the numbers of its connections. It belongs to
// that worker's goroutine.
type Tally struct {
	proven   int32
	unproven []int32 // by service id
	of       *census
}

// NewTally makes the Tally of one worker for the service ids 0 to services-1, which is the same
// number for all workers. The workers must not run yet.
func (c *Capacity) NewTally(services int) *Tally {
	if c.census == nil {
		c.census = &census{
			unproven: make([]atomic.Int32, services), fullMs: make([]atomic.Int64, services), entries: c.entries,
			block: int32(max(1, c.Even()/(4*blocksPerWorker))),
		}
	}
	return &Tally{unproven: make([]int32, services), of: c.census}
}

// AddProven changes the number of proven connections.
func (t *Tally) AddProven(by int32) {
	if t.proven += by; t.proven >= t.of.block || -t.proven >= t.of.block {
		t.of.proven.Add(int64(t.proven))
		t.proven = 0
	}
}

// AddUnproven changes the number of unproven connections of a service.
func (t *Tally) AddUnproven(service uint32, by int32) {
	d := &t.unproven[service]
	if *d += by; *d >= t.of.block || -*d >= t.of.block {
		t.publish(service, d)
	}
}

func (t *Tally) publish(service uint32, d *int32) {
	t.of.unproven[service].Add(*d)
	*d = 0
}

// Whole is the whole as a part of something.
const Whole = 1 << 16

// Admits reports whether a service may have one more unproven connection, if these may be a part,
// in units of 1/Whole, of the capacity that proven connections leave.
func (t *Tally) Admits(service, part uint32) bool {
	return int64(t.of.unproven[service].Load()+t.unproven[service]) < t.left()*int64(part)/Whole
}

// left returns the capacity that proven connections leave.
func (t *Tally) left() int64 { return int64(t.of.entries) - t.of.proven.Load() - int64(t.proven) }

// AllProven reports whether proven connections use the whole capacity.
func (t *Tally) AllProven() bool { return t.left() <= 0 }

// pressureMs is for how long after the last new connection without an entry a service is under
// pressure.
const pressureMs = 60_000

// Press notes that a service has no entry for a new connection now.
func (t *Tally) Press(service, nowMs uint32) {
	const known = 1 << 32 // so that no time is 0
	if at := &t.of.fullMs[service]; nowMs-uint32(at.Load()) >= pressureMs/60 || at.Load() == 0 {
		at.Store(known | int64(nowMs))
	}
}

// Pressed reports whether a service had no entry for a new connection, at any worker, within the
// last minute.
func (t *Tally) Pressed(service, nowMs uint32) bool {
	at := t.of.fullMs[service].Load()
	return at != 0 && int32(nowMs-uint32(at)) < pressureMs
}

// Unproven returns the number of unproven connections of a service, apart from what other workers
// have not published.
func (t *Tally) Unproven(service uint32) int {
	return int(t.of.unproven[service].Load() + t.unproven[service])
}

// Proven is Unproven for the proven connections of all services.
func (t *Tally) Proven() int { return int(t.of.proven.Load()) + int(t.proven) }

// Unpublished returns what this worker has not published of Unproven.
func (t *Tally) Unpublished(service uint32) int { return int(t.unproven[service]) }

// UnpublishedProven returns what this worker has not published of Proven.
func (t *Tally) UnpublishedProven() int { return int(t.proven) }

// Services returns the number of service ids.
func (t *Tally) Services() int { return len(t.unproven) }
