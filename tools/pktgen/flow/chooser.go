package flow

// TCP flags that packets have; their values are the header's.
const (
	FlagFIN = 0x01
	FlagSYN = 0x02
	FlagPSH = 0x08
	FlagACK = 0x10
)

// Shot is one packet to be made.
type Shot struct {
	Tuple    uint32 // item of the source and destination ranges
	Flow     uint32 // for the stamp
	Sequence uint32 // how many of this flow were before
	Flags    uint8  // of TCP
}

// Chooser returns one shot after the other: the same for the same model on every machine, and the
// same as live.c. It belongs to one goroutine.
type Chooser struct {
	model   Model
	sources uint32
	random  Random
	aliases []Column
	sent    []uint32 // by flow

	next uint32 // Round: the next flow; Churn: the next of the concurrent connections
	step uint32 // Churn: packets of these connections that are sent
	base uint32 // Churn: the first of these connections
}

// NewChooser starts at the first packet of a model. Check must have accepted the model.
func NewChooser(m Model, sources uint32) *Chooser {
	return &Chooser{model: m, sources: sources, random: Random(m.Seed), aliases: m.Aliases(), sent: make([]uint32, m.Stamped())}
}

// Next returns the next packet.
func (c *Chooser) Next() Shot {
	var s Shot
	step := uint32(0)
	switch c.model.Kind {
	case Round:
		s.Flow = c.next
		c.next = (c.next + 1) % c.model.Flows
	case Uniform:
		s.Flow = c.random.Below(c.model.Flows)
	case Zipf:
		s.Flow = c.random.Below(c.model.Flows)
		if coin := uint32(c.random.Next() >> 32); coin >= c.aliases[s.Flow].Stay {
			s.Flow = c.aliases[s.Flow].Other
		}
	case Churn:
		s.Flow = (c.base + c.next) % c.model.Flows
		step = c.advance()
	}
	s.Tuple = s.Flow
	if c.model.Kind == SYN {
		s.Tuple = c.random.Below(c.sources)
	}
	s.Sequence = c.sent[s.Flow]
	c.sent[s.Flow]++
	s.Flags = c.flags(step, s.Sequence)
	return s
}

// advance goes round the open connections and returns which packet of them is sent now; after the
// last packet it goes on to new connections.
func (c *Chooser) advance() (step uint32) {
	step = c.step
	if c.next++; c.next < c.model.Concurrent {
		return step
	}
	c.next = 0
	if c.step++; c.step == c.model.Packets {
		c.step = 0
		c.base = (c.base + c.model.Concurrent) % c.model.Flows
	}
	return step
}

func (c *Chooser) flags(step, sequence uint32) uint8 {
	switch {
	case c.model.Kind == SYN:
		return FlagSYN
	case c.model.Kind != Churn && sequence == 0:
		return FlagSYN
	case c.model.Kind != Churn:
		return FlagPSH | FlagACK
	case step == 0:
		return FlagSYN
	case step == c.model.Packets-1:
		return FlagFIN | FlagACK
	case step == 1:
		return FlagACK
	}
	return FlagPSH | FlagACK
}

// Below returns a random number below n, from the same sequence as the flows.
func (c *Chooser) Below(n uint32) uint32 { return c.random.Below(n) }

// Sent returns how many packets of each flow have been chosen. The caller must not change it.
func (c *Chooser) Sent() []uint32 { return c.sent }
