package snat

// RestMs is for how long a port should not be reused after its connection: TIME_WAIT in Linux.
const RestMs = 60_000

// Time is divided into spans, for which a queue notes how much it has grown. Their number is such
// that all but the present one are RestMs or more together.
const (
	spanMs = 1 << 12
	spans  = RestMs/spanMs + 2
)

// releases is a queue of released ports of a Pool, which links them in its slots. Whether the first
// has rested follows from its number, counted from 0: there is no time per port.
type releases struct {
	head, tail uint16
	length     uint32
	pushed     uint32        // number of the next port
	grown      [spans]uint32 // pushed at the beginning of each span, a ring
	span       uint32        // index of the present span
	spanSince  uint32        // beginning of the present span in milliseconds
}

// push adds a port to the end.
func (q *releases) push(p *Pool, port uint16, nowMs uint32) {
	q.advance(nowMs)
	if q.length == 0 {
		q.head = port
	} else {
		*p.slot(q.tail) = uint32(port)
	}
	q.tail = port
	q.length++
	q.pushed++
}

// pop removes the first port, which must exist.
func (q *releases) pop(p *Pool) uint16 {
	port := q.head
	q.head = uint16(*p.slot(port))
	q.length--
	return port
}

// headRests reports whether the first port, which must exist, was added less than RestMs ago, or up
// to a tenth longer ago.
func (q *releases) headRests(nowMs uint32) bool {
	q.advance(nowMs)
	oldest := q.grown[(q.span+1)%spans]
	return int32(q.pushed-q.length-oldest) >= 0
}

// advance begins the spans that have begun by now.
func (q *releases) advance(nowMs uint32) {
	passed := (nowMs - q.spanSince) / spanMs
	for range min(passed, spans) {
		q.span = (q.span + 1) % spans
		q.grown[q.span] = q.pushed
	}
	q.spanSince += passed * spanMs
}
