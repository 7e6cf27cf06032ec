package frame

import (
	"errors"
	"fmt"
	"slices"

	"sluice/tools/pktgen/flow"
)

// Header sizes in bytes.
const (
	ethernetBytes = 14
	ipv4Bytes     = 20
	ipv6Bytes     = 40
	udpBytes      = 8
	tcpBytes      = 20
)

// FCSBytes is the size of the frame check sequence. Sizes that users give include it; frames in
// memory do not.
const FCSBytes = 4

// Limits of a frame's size in bytes, without the frame check sequence.
const (
	MinBytes = 60
	MaxBytes = 1514
)

// MaxSizes bounds the sizes of a mixture.
const MaxSizes = 16

// MAC is an Ethernet address.
type MAC [6]byte

// Spec describes frames.
type Spec struct {
	SourceMAC      MAC
	DestinationMAC MAC
	TCP            bool // UDP otherwise
	Source         flow.Range
	Destination    flow.Range // item i is the destination of flow i
	Sizes          []int      // bytes, MinBytes to MaxBytes; one is chosen at random for each frame
	Stream         uint8
}

// Check returns what is wrong with the frames.
func (s Spec) Check() error {
	if err := s.Source.Check(); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := s.Destination.Check(); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if s.Source.Is6() != s.Destination.Is6() {
		return fmt.Errorf("source %s and destination %s are of different IP versions", s.Source, s.Destination)
	}
	if len(s.Sizes) < 1 || len(s.Sizes) > MaxSizes {
		return fmt.Errorf("%d frame sizes: possible are 1 to %d", len(s.Sizes), MaxSizes)
	}
	for _, size := range s.Sizes {
		if least := max(MinBytes, s.headerBytes()); size < least || size > MaxBytes {
			return fmt.Errorf("frame size %d: with these headers %d to %d are possible, each with the %d bytes of the frame check sequence",
				size+FCSBytes, least+FCSBytes, MaxBytes+FCSBytes, FCSBytes)
		}
	}
	if len(s.Sizes) > 1 && !s.Stamped() {
		return errors.New("the smallest of several frame sizes must have room for the stamp")
	}
	return nil
}

// Is6 reports whether the frames carry IPv6.
func (s Spec) Is6() bool { return s.Destination.Is6() }

func (s Spec) ipBytes() int {
	if s.Is6() {
		return ipv6Bytes
	}
	return ipv4Bytes
}

func (s Spec) l4Bytes() int {
	if s.TCP {
		return tcpBytes
	}
	return udpBytes
}

func (s Spec) headerBytes() int { return ethernetBytes + s.ipBytes() + s.l4Bytes() }

// Smallest returns the size in bytes of the smallest frame with these headers and a stamp.
func (s Spec) Smallest() int { return max(MinBytes, s.headerBytes()+StampBytes) }

// Stamped reports whether the frames carry a stamp: if it fits in the smallest one.
func (s Spec) Stamped() bool { return slices.Min(s.Sizes) >= s.headerBytes()+StampBytes }

// Largest returns the size in bytes of the largest frame.
func (s Spec) Largest() int { return slices.Max(s.Sizes) }

// IMIX returns the simple Internet mix: seven small, four middle and one large frame of twelve, 64,
// 594 and 1518 bytes with the frame check sequence. The small ones grow if the stamp needs it.
func (s Spec) IMIX() []int {
	small := s.Smallest()
	return []int{small, 590, small, small, 590, small, 1514, small, 590, small, 590, small}
}
