package steer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"sluice/pipeline/service"
)

// Target is where the XDP program sends a frame.
type Target uint8

// The targets of a frame.
const (
	Kernel Target = iota // passed on, untouched
	Sluice               // to the AF_XDP socket of the receiving queue; dropped if it has none
	Prober               // to the interface of Program.Detour; to the kernel if there is none
)

// Reason is why a frame goes where it goes.
type Reason uint8

// The reasons. Those from ShortFrame on hold whatever the rules are.
const (
	_              Reason = iota
	ToService             // Sluice: the destination is a service
	ToPool                // Sluice: the destination is in a SNAT pool
	FromBackend           // Sluice: from a nat backend to a client
	ProbeAnswer           // Prober: from a probed service to a port of the prober
	BackendToHost         // Kernel: from a nat backend to an address of this host
	BackendToGroup        // Kernel: from a nat backend to an address that no client has
	NoRule                // Kernel: no rule names the destination or the source
	ShortFrame            // Kernel, like all that follow
	GroupMAC
	NotIP
	BadIPHeader
	BadExtensions
	NoPorts
	OtherProtocol
	NotAnError
	BadQuote
	QuoteOfAnother
	QuotedProtocol
	reasons
)

// String gives the reason in words, without the addresses that it is about.
func (r Reason) String() string {
	return [reasons]string{
		ToService:      "the destination is a service",
		ToPool:         "the destination is in a SNAT pool",
		FromBackend:    "the source is a nat backend and the destination a client",
		ProbeAnswer:    "the packet answers a health probe",
		BackendToHost:  "a nat backend sends to this host",
		BackendToGroup: "a nat backend sends to an address that no client has",
		NoRule:         "neither the destination nor the source belongs to a service",
		ShortFrame:     "the frame is shorter than its Ethernet header",
		GroupMAC:       "the destination MAC address is a group address (broadcast or multicast)",
		NotIP:          "the frame carries neither IPv4 nor IPv6, or has more than one VLAN tag",
		BadIPHeader:    "the IP header is truncated or wrong",
		BadExtensions:  "the IPv6 extension headers are truncated, more than eight, or route to another host",
		NoPorts:        "the packet ends before its ports",
		OtherProtocol:  "the protocol is neither tcp nor udp, and the packet is not a whole ICMP message",
		NotAnError:     "the ICMP message is not an error",
		BadQuote:       "the ICMP error quotes a packet that cannot be read",
		QuoteOfAnother: "the ICMP error quotes a packet that its receiver did not send",
		QuotedProtocol: "the ICMP error quotes a packet that is neither tcp nor udp",
	}[r]
}

// Decision is what becomes of a frame, and why.
type Decision struct {
	Target Target
	Reason Reason
	Rule   service.Key // the rule that matched; zero for NoRule and the reasons that follow

	// Source and Destination are those that were compared with the rules: the packet's, or those of
	// the answer to the packet that an ICMP error quotes. They are zero for ShortFrame and the
	// reasons that follow.
	Source, Destination netip.AddrPort

	Quoted   bool // the frame is an ICMP error
	Fragment bool // the packet that was compared with the rules is a fragment
}

// String gives the reason in words, with addresses.
func (d Decision) String() string {
	text := d.reason()
	if d.Quoted {
		text = fmt.Sprintf("an ICMP error about a packet from %s to %s: %s", end(d.Destination), end(d.Source), text)
	}
	return text
}

func (d Decision) reason() string {
	switch d.Reason {
	case ToService:
		if d.Fragment {
			return fmt.Sprintf("a fragment to %s, the address of a %s service", d.Destination.Addr(), d.Rule.Protocol)
		}
		return fmt.Sprintf("%s is a service", d.Destination)
	case ToPool:
		if d.Fragment {
			return fmt.Sprintf("a fragment to %s, an address that fullnat sends from", d.Destination.Addr())
		}
		return fmt.Sprintf("%s is a port that fullnat sends from", d.Destination)
	case FromBackend:
		return fmt.Sprintf("%s is a nat backend, and %s is not this host", end(d.Source), d.Destination.Addr())
	case ProbeAnswer:
		return fmt.Sprintf("an answer of %s to a health probe from %s", d.Source, d.Destination)
	case BackendToHost:
		return fmt.Sprintf("%s is an address of this host or a subnet's broadcast address: what backend %s sends to it is not a reply to a client",
			d.Destination.Addr(), end(d.Source))
	case BackendToGroup:
		return fmt.Sprintf("%s is %s: what backend %s sends to it is not a reply to a client",
			d.Destination.Addr(), kindOf(d.Destination.Addr()), end(d.Source))
	case NoRule:
		return fmt.Sprintf("neither %s nor %s belongs to a service", end(d.Destination), end(d.Source))
	}
	return d.Reason.String()
}

// end writes an end of a packet; fragments have no port.
func end(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// Decider decides about frames as the XDP program does under the same rules. It is safe for
// concurrent use.
type Decider struct {
	roles map[netip.Addr]*roles
}

// roles are the rules about one address.
type roles struct {
	services, pools, replies, probed, probers []service.Key

	local bool // an address of this host
}

// NewDecider returns a Decider for rules that Program.Set would accept.
func NewDecider(r Rules) *Decider {
	d := &Decider{roles: make(map[netip.Addr]*roles)}
	for _, k := range r.Services {
		of := d.add(k.Address)
		of.services = append(of.services, k)
	}
	for _, k := range r.Pools {
		of := d.add(k.Address)
		of.pools = append(of.pools, k)
	}
	for _, k := range r.Replies {
		of := d.add(k.Address)
		of.replies = append(of.replies, k)
	}
	for _, k := range r.Probed {
		of := d.add(k.Address)
		of.probed = append(of.probed, k)
	}
	for _, k := range r.Probers {
		of := d.add(k.Address)
		of.probers = append(of.probers, k)
	}
	for _, a := range r.Locals {
		d.add(a).local = true
	}
	return d
}

// add returns the roles of an address, to be changed.
func (d *Decider) add(a netip.Addr) *roles {
	a = a.Unmap().WithZone("") // as addresses are in packets
	if d.roles[a] == nil {
		d.roles[a] = &roles{}
	}
	return d.roles[a]
}

// of returns the roles of an address, to be read.
func (d *Decider) of(a netip.Addr) *roles {
	if found := d.roles[a]; found != nil {
		return found
	}
	return &roles{}
}

// Decide returns what the XDP program does with a frame, which begins with its Ethernet header. It
// is the specification of steer.c: slow, without maps, offsets or bits, and compared with it by
// TestDecideIsTheProgram.
func (d *Decider) Decide(frame []byte) Decision {
	p, reason := parseFrame(frame)
	switch {
	case reason != 0:
		return Decision{Reason: reason}
	case p.balanced():
		return d.decideFlow(&p)
	case p.fragment || p.protocol != icmpOf(p.source.Addr()):
		return Decision{Reason: OtherProtocol}
	}
	return d.decideICMP(&p)
}

// DecideTuple is Decide for the packet with these ends, whole and without a VLAN tag.
func (d *Decider) DecideTuple(protocol service.Protocol, source, destination netip.AddrPort) Decision {
	return d.Decide(shortest(protocol, source, destination))
}

// decideFlow decides about a TCP or UDP packet. The first of these lines that matches holds:
//
//	destination             source                      target
//	a service               any                         Sluice
//	in a SNAT pool          any                         Sluice
//	a port of the prober    a service that is probed    Prober, unless it is a fragment
//	this host               any                         Kernel
//	no client's             any                         Kernel
//	any                     a nat backend               Sluice
//	any                     any                         Kernel
func (d *Decider) decideFlow(p *packet) Decision {
	to, from := d.of(p.destination.Addr()), d.of(p.source.Addr())
	as := func(target Target, reason Reason, rule service.Key) Decision {
		return Decision{Target: target, Reason: reason, Rule: rule, Source: p.source, Destination: p.destination, Fragment: p.fragment}
	}
	if rule, ok := p.match(to.services, p.destination, true); ok {
		return as(Sluice, ToService, rule)
	}
	// The kernel's later fragments to an address of its own can't be told from those of a SNAT
	// pool.
	if rule, ok := p.match(to.pools, p.destination, !to.local); ok {
		return as(Sluice, ToPool, rule)
	}
	if rule, ok := p.match(from.probed, p.source, false); ok && !p.fragment {
		if _, ok := p.match(to.probers, p.destination, false); ok {
			return as(Prober, ProbeAnswer, rule)
		}
	}
	rule, ok := p.match(from.replies, p.source, true)
	switch {
	case !ok:
		return as(Kernel, NoRule, service.Key{})
	case to.local:
		return as(Kernel, BackendToHost, rule)
	case kindOf(p.destination.Addr()) != "":
		return as(Kernel, BackendToGroup, rule)
	}
	return as(Sluice, FromBackend, rule)
}

// match returns the first rule that names an end of the packet. With fragments true, all fragments
// that have the rule's address and protocol match, whatever their port.
func (p *packet) match(rules []service.Key, end netip.AddrPort, fragments bool) (service.Key, bool) {
	i := slices.IndexFunc(rules, func(rule service.Key) bool {
		switch {
		case !p.may(rule.Protocol):
			return false
		case p.fragment && fragments:
			return true
		}
		return !p.noPorts && rule.Ports.Contains(end.Port())
	})
	if i < 0 {
		return service.Key{}, false
	}
	return rules[i], true
}

// decideICMP decides about an ICMP message. An error goes where the answer to the packet that it
// quotes would go: the table at the top of steer.c has all cases.
func (d *Decider) decideICMP(p *packet) Decision {
	parse, errorTypes := parse4, errorTypes4
	if p.source.Addr().Is6() {
		parse, errorTypes = parse6, errorTypes6
	}
	if len(p.payload) < icmpLen || !slices.Contains(errorTypes, p.payload[0]) {
		return Decision{Reason: NotAnError}
	}
	quoted, reason := parse(p.payload[icmpLen:], true)
	switch {
	case reason != 0:
		return Decision{Reason: BadQuote}
	case quoted.source.Addr() != p.destination.Addr(): // RFC 1122 3.2.2, RFC 4443 2.4
		return Decision{Reason: QuoteOfAnother}
	case !quoted.balanced():
		return Decision{Reason: QuotedProtocol}
	}
	answer := quoted
	answer.source, answer.destination = quoted.destination, quoted.source
	decision := d.decideFlow(&answer)
	decision.Quoted = true
	return decision
}

// The types of ICMP and ICMPv6 errors: destination unreachable; source quench or packet too big;
// time exceeded; parameter problem.
var (
	errorTypes4 = []byte{3, 4, 11, 12}
	errorTypes6 = []byte{1, 2, 3, 4}
)

// icmpOf returns the protocol number of ICMP in an address's family.
func icmpOf(a netip.Addr) int {
	if a.Is6() {
		return icmp6
	}
	return icmp4
}

// kinds are the addresses that no client has, and that no router forwards to.
var kinds = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an address of no host"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("::1/128"), "the loopback address"},
	{netip.MustParsePrefix("::/96"), "an address of no host"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

// kindOf names what an address is if no client can have it, and is "" else.
func kindOf(a netip.Addr) string {
	for _, k := range kinds {
		if k.prefix.Contains(a) {
			return k.name
		}
	}
	return ""
}

// shortest returns the shortest frame with these ends: it ends after the ports.
func shortest(protocol service.Protocol, source, destination netip.AddrPort) []byte {
	etherType, ip := uint16(0x0800), make([]byte, ipv4Len)
	if source.Addr().Is4() {
		ip[0], ip[3], ip[9] = 0x45, ipv4Len+portsLen, byte(protocol)
		copy(ip[12:], source.Addr().AsSlice())
		copy(ip[16:], destination.Addr().AsSlice())
	} else {
		etherType, ip = 0x86dd, make([]byte, ipv6Len)
		ip[0], ip[5], ip[6] = 0x60, portsLen, byte(protocol)
		copy(ip[8:], source.Addr().AsSlice())
		copy(ip[24:], destination.Addr().AsSlice())
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, ethernetLen-2), etherType)
	frame = append(frame, ip...)
	frame = binary.BigEndian.AppendUint16(frame, source.Port())
	return binary.BigEndian.AppendUint16(frame, destination.Port())
}
