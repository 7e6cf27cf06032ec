package counter

// Service counts what one worker refused of a service's new connections.
type Service struct {
	// Of identifies the service: its number may have been another's before. 0: none.
	Of     uint64
	Denied uint64 // packets of clients that a list denies
}

// Add adds another worker's counts of the service to s, if o are such.
func (s *Service) Add(o *Service) {
	if s.Of != o.Of {
		return
	}
	s.Denied += o.Denied
}
