package steer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

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
	ToVIP                 // Sluice: to a service's address that this host does not have
	FromBackend           // Sluice: from a nat backend to a client
	AfterFirst            // Sluice: a later fragment of a packet with a first one that went there
	BeforeFirst           // Sluice: a later fragment that comes first, not to this host
	ProbeAnswer           // Prober: from a probed service to a port of the prober
	BackendToHost         // Kernel: from a nat backend to an address of this host
	BackendToGroup        // Kernel: from a nat backend to an address that no client has
	BackendOpens          // Kernel: of a connection that a nat backend opens or has opened
	NoRule                // Kernel: no rule names the destination or the source
	LaterFragment         // Kernel: a later fragment, and the first one did not go to Sluice
	OtherMAC              // Kernel: the port does not have the destination MAC address
	OtherVLAN             // Kernel: the port has it, but not in this VLAN
	ShortFrame            // Kernel, like all that follow
	GroupMAC
	ServiceTag
	NotIP
	BadIPHeader
	BadExtensions
	NoPorts
	OtherProtocol
	NotAnError
	BadQuote
	QuoteOfAnother
	QuotedProtocol
	QuotedFragment
	Discovery
	reasons
)

// String gives the reason in words, without the addresses that it is about.
func (r Reason) String() string {
	return [reasons]string{
		ToService:      "the destination is a service",
		ToPool:         "the destination is in a SNAT pool",
		ToVIP:          "the destination is a service's address that this host does not have",
		FromBackend:    "the source is a nat backend and the destination a client",
		AfterFirst:     "the first fragment of the packet went to Sluice",
		BeforeFirst:    "it comes before the first fragment of its packet, and could belong to a nat backend or a SNAT pool",
		ProbeAnswer:    "the packet answers a health probe",
		BackendToHost:  "a nat backend sends to this host",
		BackendToGroup: "a nat backend sends to an address that no client has",
		BackendOpens:   "a nat backend opened the connection",
		LaterFragment:  "it is not the first fragment of its packet, and the first one did not go to Sluice",
		NoRule:         "neither the destination nor the source belongs to a service",
		ShortFrame:     "the frame is shorter than its Ethernet header",
		OtherMAC:       "the destination MAC address is none of this host's at the port",
		OtherVLAN:      "the frame is of a VLAN in which this host does not have the destination MAC address",
		GroupMAC:       "the destination or the source MAC address is a group address (broadcast or multicast)",
		ServiceTag:     "the frame carries an 802.1ad tag with a VLAN",
		NotIP:          "the frame carries neither IPv4 nor IPv6, or has more than one VLAN tag",
		BadIPHeader:    "the IP header is truncated or wrong",
		BadExtensions:  "the IPv6 extension headers are truncated, more than eight, or route to another host",
		NoPorts:        "the packet ends before its ports",
		OtherProtocol:  "the protocol is neither tcp nor udp, and the packet is not a whole ICMP message",
		NotAnError:     "the ICMP message is not an error",
		BadQuote:       "the ICMP error quotes a packet that cannot be read",
		QuoteOfAnother: "the ICMP error quotes a packet that its receiver did not send",
		QuotedProtocol: "the ICMP error quotes a packet that is neither tcp nor udp",
		QuotedFragment: "the ICMP error quotes a fragment without ports",
		Discovery:      "the message is neighbour discovery of the link",
	}[r]
}

// Decision is what becomes of a frame, and why.
type Decision struct {
	Target Target
	Reason Reason
	Rule   service.Key // the rule with ports that matched; else zero

	// Source and Destination are those that were compared with the rules: the packet's, or those of
	// the answer to the packet that an ICMP error quotes. They are zero for ShortFrame and the
	// reasons that follow. They have no ports if the packet has none.
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
		return fmt.Sprintf("%s is a service", d.Destination)
	case ToPool:
		return fmt.Sprintf("%s is a port that fullnat sends from", d.Destination)
	case ToVIP:
		return fmt.Sprintf("%s is the address of a service, and not of this host", d.Destination.Addr())
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
	case BackendOpens:
		return fmt.Sprintf("a nat backend opened the connection of %s and %s", end(d.Source), end(d.Destination))
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
	roles    map[netip.Addr]*roles
	stations []Station
}

// roles are the rules about one address.
type roles struct {
	services, pools, replies, probed, probers []service.Key

	local bool // an address of this host
	vip   bool // a service's, and not of this host
}

// NewDecider returns a Decider for rules that Program.Set would accept.
func NewDecider(r Rules) *Decider {
	d := &Decider{roles: make(map[netip.Addr]*roles), stations: r.Stations}
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
	for _, a := range r.VIPs {
		d.add(a).vip = true
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

// Memory is what the XDP program remembers of the frames that it has seen. It belongs to one
// goroutine. Unlike the program's, it grows without bound.
type Memory struct {
	now       time.Duration       // since the Memory was made
	opened    map[flow]*opened    // connections that nat backends have opened
	fragments map[fragments]first // packets with a first fragment that has come
}

// For how long the XDP program remembers: IDLE_NS, CLOSING_NS and FRAGMENTS_NS in steer.c.
const (
	openedIdle    = 7440 * time.Second
	openedClosing = 60 * time.Second
	fragmentsKept = 30 * time.Second
)

// first is a first fragment: when it came, and whether it went to Sluice.
type first struct {
	at     time.Duration
	sluice bool
}

// opened is what is remembered of a connection.
type opened struct {
	seen    time.Duration // when its last packet passed
	closing bool          // one end has sent FIN or RST
}

// connection returns what is remembered of a connection, nil if nothing is or it has expired.
func (m *Memory) connection(f flow) *opened {
	o := m.opened[f]
	if o == nil || m.now-o.seen > openedIdle || o.closing && m.now-o.seen > openedClosing {
		return nil
	}
	return o
}

// Advance moves the time of the Memory forward.
func (m *Memory) Advance(by time.Duration) { m.now += by }

// firstOf returns the first fragment of p's packet, if it is remembered.
func (m *Memory) firstOf(p *packet) (f first, ok bool) {
	f, ok = m.fragments[p.fragments()]
	return f, ok && m.now-f.at <= fragmentsKept
}

// flow is a connection, with the end that opened it.
type flow struct{ opener, peer netip.AddrPort }

// fragments is a packet that arrives in fragments.
type fragments struct {
	source, destination netip.Addr
	id                  uint32
	protocol            int // 0 in IPv6
}

// NewMemory returns a Memory of no frames.
func NewMemory() *Memory {
	return &Memory{opened: make(map[flow]*opened), fragments: make(map[fragments]first)}
}

// Decide returns what the XDP program does with a frame, which begins with its Ethernet header, if
// it remembers nothing and the frame was sent to this host. It is safe for concurrent use.
func (d *Decider) Decide(frame []byte) Decision { return d.DecideNext(frame, NewMemory()) }

// DecideAt returns what the XDP program does with a frame that a port receives after those that m
// knows; m then knows it too.
func (d *Decider) DecideAt(ifindex int, frame []byte, m *Memory) Decision {
	e, reason := parseEthernet(frame)
	if reason == 0 {
		reason = d.notOurs(ifindex, e)
	}
	if reason != 0 {
		return Decision{Reason: reason}
	}
	return d.DecideNext(frame, m)
}

// notOurs returns 0, or why a port's frame was not sent to this host.
func (d *Decider) notOurs(ifindex int, e ethernet) Reason {
	reason := OtherMAC
	for _, s := range d.stations {
		if s.Ifindex == ifindex && s.MAC == e.destination {
			if s.VLAN == e.vlan {
				return 0
			}
			reason = OtherVLAN
		}
	}
	return reason
}

// DecideNext is DecideAt for a frame that was sent to this host. It is the specification of
// steer.c: slow, without offsets or bits, and compared with it by TestDecideIsTheProgram.
func (d *Decider) DecideNext(frame []byte, m *Memory) Decision {
	p, reason := parseFrame(frame)
	if reason != 0 {
		return d.decideRest(&p, reason)
	}
	if p.later {
		return d.decideLater(&p, m)
	}
	decision := d.decidePacket(&p, m)
	if p.fragment {
		delete(m.fragments, p.fragments())
		if sluice := decision.Target == Sluice; sluice || d.mayBeOurs(&p) {
			m.fragments[p.fragments()] = first{m.now, sluice}
		}
	}
	return decision
}

// decideLater decides about a later fragment: it goes where the first one went. One that comes
// first goes where it may belong.
func (d *Decider) decideLater(p *packet, m *Memory) Decision {
	as := Decision{Target: Sluice, Reason: AfterFirst, Source: p.source, Destination: p.destination, Fragment: true}
	first, known := m.firstOf(p)
	switch {
	case known && first.sluice:
		return as
	case known || !d.mayBeOurs(p):
		return Decision{Reason: LaterFragment}
	case d.of(p.destination.Addr()).vip:
		return d.decideRest(p, LaterFragment)
	}
	as.Reason = BeforeFirst
	return as
}

// mayBeOurs reports whether a fragment may be Sluice's that has no ports and comes before the first
// one. If it was sent to this host it is the kernel's, which completes the packet.
func (d *Decider) mayBeOurs(p *packet) bool {
	to, from := d.of(p.destination.Addr()), d.of(p.source.Addr())
	of := func(rules []service.Key) bool {
		return slices.ContainsFunc(rules, func(k service.Key) bool { return int(k.Protocol) == p.protocol })
	}
	switch {
	case to.vip:
		return true
	case to.local || kindOf(p.destination.Addr()) != "":
		return false
	}
	return of(to.services) || of(to.pools) || of(from.replies)
}

// fragments returns the packet that p is a fragment of.
func (p *packet) fragments() fragments {
	key := fragments{p.source.Addr(), p.destination.Addr(), p.id, p.protocol}
	if key.source.Is6() {
		key.protocol = 0 // RFC 8200, 4.5
	}
	return key
}

// decidePacket decides about a packet other than a later fragment.
func (d *Decider) decidePacket(p *packet, m *Memory) Decision {
	switch {
	case p.balanced():
		return d.decideFlow(p, m, p.flags())
	case p.fragment || p.protocol != icmpOf(p.source.Addr()):
		return d.decideRest(p, OtherProtocol)
	}
	return d.decideICMP(p, m)
}

// decideRest decides about a packet that no rule with ports can name, for the reason: it is
// Sluice's if it is sent to a VIP that this host does not have.
func (d *Decider) decideRest(p *packet, reason Reason) Decision {
	if d.of(p.destination.Addr()).vip {
		return Decision{Target: Sluice, Reason: ToVIP, Source: withoutPort(p.source), Destination: withoutPort(p.destination), Fragment: p.fragment}
	}
	return Decision{Reason: reason}
}

func withoutPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }

// DecideTuple is Decide for the packet with these ends, whole and without a VLAN tag. A TCP packet
// has no flags.
func (d *Decider) DecideTuple(protocol service.Protocol, source, destination netip.AddrPort) Decision {
	return d.Decide(shortest(protocol, source, destination))
}

// decideFlow decides about a TCP or UDP packet that has its ports. The first of these lines that
// matches holds:
//
//	destination             source                      target
//	a service               any                         Sluice
//	in a SNAT pool          any                         Sluice
//	a VIP                   any                         Sluice
//	a port of the prober    a service that is probed    Prober, unless it is a fragment
//	this host               any                         Kernel
//	no client's             any                         Kernel
//	any                     a nat backend               Sluice, or Kernel: see opens
//	any                     any                         Kernel
//
// In the last line too, a connection that one nat backend opens to another is remembered.
func (d *Decider) decideFlow(p *packet, m *Memory, flags byte) Decision {
	to, from := d.of(p.destination.Addr()), d.of(p.source.Addr())
	as := func(target Target, reason Reason, rule service.Key) Decision {
		return Decision{Target: target, Reason: reason, Rule: rule, Source: p.source, Destination: p.destination, Fragment: p.fragment}
	}
	if rule, ok := p.match(to.services, p.destination); ok {
		return as(Sluice, ToService, rule)
	}
	if rule, ok := p.match(to.pools, p.destination); ok {
		return as(Sluice, ToPool, rule)
	}
	if to.vip {
		return as(Sluice, ToVIP, service.Key{})
	}
	if rule, ok := p.match(from.probed, p.source); ok && !p.fragment {
		if _, ok := p.match(to.probers, p.destination); ok {
			return as(Prober, ProbeAnswer, rule)
		}
	}
	rule, reply := p.match(from.replies, p.source)
	between := from.hasReplies(p.protocol) && to.hasReplies(p.protocol)
	switch {
	case to.local && reply:
		return as(Kernel, BackendToHost, rule)
	case kindOf(p.destination.Addr()) != "" && reply:
		return as(Kernel, BackendToGroup, rule)
	case to.local || kindOf(p.destination.Addr()) != "" || !reply && !between:
		return as(Kernel, NoRule, service.Key{})
	case m.opens(p, flags, reply):
		return as(Kernel, BackendOpens, rule)
	case reply:
		return as(Sluice, FromBackend, rule)
	}
	return as(Kernel, NoRule, service.Key{})
}

// hasReplies reports whether replies of a nat backend come from the address.
func (r *roles) hasReplies(protocol int) bool {
	return slices.ContainsFunc(r.replies, func(k service.Key) bool { return int(k.Protocol) == protocol })
}

// opens reports whether a nat backend's packet opens a connection, or belongs to one that its
// sender or its receiver has opened. It remembers a connection that the packet opens. A reply comes
// from a port of a rule.
func (m *Memory) opens(p *packet, flags byte, reply bool) bool {
	out, back := flow{p.source, p.destination}, flow{p.destination, p.source}
	if p.protocol != int(service.TCP) {
		return false
	}
	switch flags & (fin | syn | rst | ack) {
	case syn:
		m.opened[out] = &opened{seen: m.now}
		return true
	case syn | ack, syn | ack | fin, syn | ack | rst, syn | ack | fin | rst:
		if reply {
			delete(m.opened, out) // of an older connection with the same ends
		}
	}
	o := cmp.Or(m.connection(out), m.connection(back))
	if !reply || o == nil {
		return false
	}
	o.seen = m.now
	o.closing = o.closing || flags&(fin|rst) != 0
	return true
}

// match returns the first rule that names an end of the packet.
func (p *packet) match(rules []service.Key, end netip.AddrPort) (service.Key, bool) {
	i := slices.IndexFunc(rules, func(rule service.Key) bool {
		return p.protocol == int(rule.Protocol) && rule.Ports.Contains(end.Port())
	})
	if i < 0 {
		return service.Key{}, false
	}
	return rules[i], true
}

// decideICMP decides about an ICMP message. An error goes where the answer to the packet that it
// quotes would go: the table at the top of steer.c has all cases.
func (d *Decider) decideICMP(p *packet, m *Memory) Decision {
	parse, errorTypes := parse4, errorTypes4
	if p.source.Addr().Is6() {
		parse, errorTypes = parse6, errorTypes6
	}
	switch {
	case len(p.payload) < icmpLen:
		return d.decideRest(p, NotAnError)
	case p.hops == 255 && p.payload[0] >= 133 && p.payload[0] <= 137:
		return Decision{Reason: Discovery} // others' has passed a router (RFC 4861, 7.1)
	case !slices.Contains(errorTypes, p.payload[0]):
		return d.decideRest(p, NotAnError)
	}
	quoted, reason := parse(p.payload[icmpLen:], true)
	switch {
	case reason != 0:
		return d.decideRest(p, BadQuote)
	case quoted.source.Addr() != p.destination.Addr(): // RFC 1122 3.2.2, RFC 4443 2.4
		return d.decideRest(p, QuoteOfAnother)
	case !quoted.balanced():
		return d.decideRest(p, QuotedProtocol)
	case quoted.later:
		return d.decideRest(p, QuotedFragment)
	}
	answer := quoted
	answer.source, answer.destination = quoted.destination, quoted.source
	decision := d.decideFlow(&answer, m, 0)
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
	etherType, ip := uint16(typeIPv4), make([]byte, ipv4Len)
	if source.Addr().Is4() {
		ip[0], ip[3], ip[9] = 0x45, ipv4Len+portsLen, byte(protocol)
		copy(ip[12:], source.Addr().AsSlice())
		copy(ip[16:], destination.Addr().AsSlice())
	} else {
		etherType, ip = typeIPv6, make([]byte, ipv6Len)
		ip[0], ip[5], ip[6] = 0x60, portsLen, byte(protocol)
		copy(ip[8:], source.Addr().AsSlice())
		copy(ip[24:], destination.Addr().AsSlice())
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, ethernetLen-2), etherType)
	frame = append(frame, ip...)
	frame = binary.BigEndian.AppendUint16(frame, source.Port())
	return binary.BigEndian.AppendUint16(frame, destination.Port())
}
