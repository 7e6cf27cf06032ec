package flow

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is how the next packet's flow is chosen. The numbers are those of live.c.
type Kind uint8

// The kinds.
const (
	Round   Kind = iota // one flow after the other
	Uniform             // any flow, with equal probability
	Zipf                // flow i with a probability proportional to 1/(i+1)^Exponent
	SYN                 // a SYN from any of the sources, each time
	Churn               // connections that open, send and close; then the next ones
)

var kindNames = [...]string{Round: "round", Uniform: "uniform", Zipf: "zipf", SYN: "syn", Churn: "churn"}

// String returns the name that ParseKind reads.
func (k Kind) String() string { return kindNames[k] }

// ParseKind reads round, uniform, zipf, syn or churn.
func ParseKind(text string) (Kind, error) {
	for k, name := range kindNames {
		if text == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", text, strings.Join(kindNames[:], ", "))
}

// MaxFlows is the number of flows that a stamp can distinguish.
const MaxFlows = 1 << 24

// Model selects the flow of each packet.
type Model struct {
	Kind       Kind
	Flows      uint32  // different flows, 1 to MaxFlows; SYN doesn't use it
	Exponent   float64 // Zipf: more than 0; 1 is usual
	Concurrent uint32  // Churn: connections that are open at the same time, 1 to Flows
	Packets    uint32  // Churn: packets of a connection: SYN, ACK, data, FIN; at least 3
	Seed       uint64  // of Uniform, Zipf, SYN and of random sizes
}

// Check returns what is wrong with the model, given the number of sources.
func (m Model) Check(sources uint32) error {
	if int(m.Kind) >= len(kindNames) {
		return fmt.Errorf("there is no flow model %d", m.Kind)
	}
	if m.Kind == SYN {
		return nil
	}
	if m.Flows < 1 || m.Flows > MaxFlows {
		return fmt.Errorf("%d flows: possible are 1 to %d", m.Flows, MaxFlows)
	}
	if m.Flows > sources {
		return fmt.Errorf("%d flows need as many sources, and there are %d: give more source addresses or ports", m.Flows, sources)
	}
	switch m.Kind {
	case Zipf:
		if !(m.Exponent > 0 && m.Exponent <= 10) {
			return fmt.Errorf("zipf exponent %v: possible is more than 0 up to 10", m.Exponent)
		}
	case Churn:
		if m.Concurrent < 1 || m.Concurrent > m.Flows {
			return fmt.Errorf("%d concurrent connections: possible are 1 to the number of flows, %d", m.Concurrent, m.Flows)
		}
		if m.Packets < 3 {
			return errors.New("a connection has at least 3 packets: SYN, ACK and FIN")
		}
	}
	return nil
}

// Stamped returns the number of flows that the stamps distinguish. All SYNs of a flood are one,
// because no source is expected twice.
func (m Model) Stamped() uint32 {
	if m.Kind == SYN {
		return 1
	}
	return m.Flows
}

// Aliases returns the table from which Zipf draws; nil for the other kinds.
func (m Model) Aliases() []Column {
	if m.Kind != Zipf {
		return nil
	}
	return zipf(m.Flows, m.Exponent)
}
