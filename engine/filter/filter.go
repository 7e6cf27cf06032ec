// Package filter selects frames by tcpdump expressions: the part of pcap-filter(7) for Ethernet,
// IP, TCP, UDP and ICMP. It refuses everything else; an expression that it accepts means what it
// means in tcpdump.
//
//	[ip|ip6|tcp|udp|icmp|icmp6|arp]             and, or, not, &&, ||, !, ( )
//	[src|dst] [host] ADDRESS                     vlan [ID]
//	[src|dst] net PREFIX                         greater BYTES, less BYTES
//	[tcp|udp] [src|dst] port N                   ip proto N
//	[tcp|udp] [src|dst] portrange N-M            tcp[tcpflags] & (tcp-syn|tcp-rst) != 0, ip[8] < 5
//
// As in tcpdump, "and" and "or" have equal precedence and group from the left, and a bare value
// repeats the qualifiers of the last one: "port 80 or 443". Only the outermost IP header is
// examined.
//
// The library packetcap/go-pcap compiles such expressions to BPF, but (2024-05) it compiles "icmp"
// to a filter that matches everything, and "(tcp or udp) and host A" to "tcp and host A". A search
// for a lost packet needs exact filters.
//
// The package starts no goroutine. It imports pipeline/packet and pipeline/service.
package filter

import "fmt"

// Filter is a compiled expression. It has no state: any goroutine may use it.
type Filter struct{ test test }

// test is a condition on a frame.
type test func(v *view) bool

// MaxBytes is the length of the longest expression. It bounds the work that Match has with a frame,
// on a worker's thread.
const MaxBytes = 4096

// Compile parses an expression; the empty expression matches every frame. The error names the part
// that is wrong.
func Compile(expression string) (*Filter, error) {
	if len(expression) > MaxBytes {
		return nil, fmt.Errorf("filter has %d bytes; allowed: at most %d", len(expression), MaxBytes)
	}
	p := &parser{tokens: scan(expression)}
	if p.peek() == "" {
		return &Filter{}, nil
	}
	t, err := p.expression(0)
	if err == nil && p.peek() != "" {
		err = fmt.Errorf("unexpected %q", p.peek())
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w; allowed: tcpdump expressions of host, net, port, portrange, src, dst, tcp, udp, icmp, ip, ip6, vlan, tcp[13] and similar", expression, err)
	}
	return &Filter{t}, nil
}

// All reports whether the filter matches every frame.
func (f *Filter) All() bool { return f.test == nil }

// Scratch is memory for Match, which allocates nothing. Only one goroutine may use it at a time.
type Scratch struct{ v view }

// Match reports whether the filter selects the frame, which begins with its Ethernet header. The
// frame may be cut off after its headers; length is its original length.
func (f *Filter) Match(s *Scratch, frame []byte, length int) bool {
	if f.test == nil {
		return true
	}
	s.v = view{}
	s.v.read(frame, length)
	return f.test(&s.v)
}
