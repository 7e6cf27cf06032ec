// Package filter chooses frames by tcpdump's expressions: the part of pcap-filter(7) that is about
// Ethernet, IP, TCP, UDP and ICMP. What it doesn't know it refuses; it never takes a text for
// something else than tcpdump would.
//
//	[ip|ip6|tcp|udp|icmp|icmp6|arp]             and, or, not, &&, ||, !, ( )
//	[src|dst] [host] ADDRESS                     vlan [ID]
//	[src|dst] net PREFIX                         greater BYTES, less BYTES
//	[tcp|udp] [src|dst] port N                   ip proto N
//	[tcp|udp] [src|dst] portrange N-M            tcp[tcpflags] & (tcp-syn|tcp-rst) != 0, ip[8] < 5
//
// As in tcpdump, and and or bind equally and from the left, and a bare value repeats the words
// before the last one: "port 80 or 443". Only the outermost IP header is looked at.
//
// The library packetcap/go-pcap compiles such expressions to BPF, but (2024-05) it takes "icmp" for
// everything and "(tcp or udp) and host A" for "tcp and host A"; who looks for a lost packet must
// not be misled.
package filter

import "fmt"

// Filter is a compiled expression. It has no state: any goroutine may use it.
type Filter struct{ test test }

// test is a condition on a frame.
type test func(v *view) bool

// Compile reads an expression; the empty one matches every frame. The error says what is not
// understood.
func Compile(expression string) (*Filter, error) {
	p := &parser{tokens: scan(expression)}
	if p.peek() == "" {
		return &Filter{}, nil
	}
	t, err := p.expression(0)
	if err == nil && p.peek() != "" {
		err = fmt.Errorf("%q comes unexpected", p.peek())
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w: it takes tcpdump's expressions of host, net, port, portrange, src, dst, tcp, udp, icmp, ip, ip6, vlan, tcp[13] and the like", expression, err)
	}
	return &Filter{t}, nil
}

// All says that the filter matches every frame.
func (f *Filter) All() bool { return f.test == nil }

// Scratch is memory for Match, which allocates nothing. One goroutine uses it at a time.
type Scratch struct{ v view }

// Match says whether the frame, Ethernet header first, is one of those chosen. It may be cut behind
// its headers; length is what it had before.
func (f *Filter) Match(s *Scratch, frame []byte, length int) bool {
	if f.test == nil {
		return true
	}
	s.v = view{}
	s.v.read(frame, length)
	return f.test(&s.v)
}
