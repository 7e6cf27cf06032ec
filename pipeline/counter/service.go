package counter

// Limit is a limit on new connections.
type Limit int

// The limits.
const (
	LimitConnections  Limit = iota // [service.limits] connections
	LimitNewPerSecond              // [service.limits] new_per_second
	LimitSourceConnections
	LimitSourceNewPerSecond
	LimitBackends // max_connections of all backends that could take it
	Limits
)

// String returns the name of the key that sets the limit.
func (l Limit) String() string {
	return [Limits]string{"connections", "new_per_second", "source_connections", "source_new_per_second", "max_connections"}[l]
}

// Service counts what one worker refused of a service's new connections, and what became of them
// when the table was full.
type Service struct {
	// Of identifies the service: its number may have been another's before. 0: none.
	Of      uint64
	Denied  uint64 // packets of clients that a list denies
	Limited [Limits]uint64
	// FoundFull counts new connections that found the service's part of the table used up, the
	// table full, or no SNAT port, whatever became of them.
	FoundFull     uint64
	Displaced     uint64 // connections of the service that were removed before their timeouts
	TableFull     uint64 // of FoundFull, those that were dropped
	SNATExhausted uint64 // likewise, without a SNAT port
	Untracked     uint64 // of FoundFull, those that a hash forwarded without a connection
	// First counts first packets of flows that a hash forwarded without a connection, and Second
	// later packets of such flows that opened one, or found no free entry for it.
	First, Second uint64
	// Unproven is how many unproven connections the service has now, of those that the worker has
	// not published and, at worker 0, of those that were. It is set in copies only.
	Unproven int
	// Spare connections may open in the millisecond SpareMs before all are counted again.
	Spare, SpareMs uint32
}

// ByLimit returns the counts of limits that were exceeded, by name; nil: none was.
func (s *Service) ByLimit() (all map[string]uint64) {
	for l, n := range s.Limited {
		if n == 0 {
			continue
		}
		if all == nil {
			all = make(map[string]uint64)
		}
		all[Limit(l).String()] = n
	}
	return all
}

// Add adds another worker's counts of the service to s, if o are such.
func (s *Service) Add(o *Service) {
	if s.Of != o.Of {
		return
	}
	s.Denied += o.Denied
	s.FoundFull += o.FoundFull
	s.Displaced += o.Displaced
	s.TableFull += o.TableFull
	s.SNATExhausted += o.SNATExhausted
	s.Untracked += o.Untracked
	s.First += o.First
	s.Second += o.Second
	s.Unproven += o.Unproven
	for i := range s.Limited {
		s.Limited[i] += o.Limited[i]
	}
}
