// Package counter names every way in which a packet can end and counts them. It is a leaf.
//
// All tests check the identity: rx = forwarded + replied + to the kernel + waiting + the sum of all
// drops + what a crash lost.
package counter

// Reason is why a frame was dropped, None if it was not.
type Reason uint8

// The drop reasons. Their names are in reasons, for statistics, metrics and tests.
const (
	None          Reason = iota
	Short                // shorter than the headers it announces
	NotIP                // EtherType or IP version that is not handled
	VLANStack            // more than one 802.1Q tag
	BadIPHeader          // IHL, total length or version invalid
	BadIPChecksum        // IPv4 header checksum wrong: the kernel's own check is bypassed
	IPOptions            // IPv4 options, or IPv6 extension headers that are not followed
	// Fragment: of a packet with a first fragment that did not come, or was dropped, or that holds
	// no TCP or UDP
	Fragment
	BadFragment  // a fragment that hides a transport header, or exceeds the packet
	FragmentFull // too many fragments wait for the first ones of their packets: the oldest
	// Martian: no client has the source: loopback, multicast, broadcast, this host's, a VIP, ...
	Martian
	BadL4Header     // TCP or UDP header invalid
	BadTCPFlags     // no flags at all, or SYN together with FIN or RST
	BadICMP         // ICMP error that embeds no readable packet
	ICMPNoFlow      // ICMP error about an unknown flow
	UnknownProtocol // neither TCP, UDP nor an ICMP error
	NoConnection    // backend's packet, or client's non-SYN, that belongs to no connection
	NoService       // VIP that the kernel does not have: nothing is at the port
	EchoRefused     // likewise: its services do not answer ICMP echo requests now
	NoBackend       // service has no backend that may take a new connection
	AccessDenied    // client is denied by a list of the service or of the box
	Limited         // a limit of the service, or those of all backends, are reached
	// BackendGone: the connections of the backend were ended
	BackendGone
	TableFull // connection table has no free slot near the home
	// TupleTaken: backend already has this client address and port through another service
	TupleTaken
	// Hairpin: nat: the client is the backend, or would be answered by it directly
	Hairpin
	SNATExhausted // fullnat: all local ports towards this backend are in use
	TTLExpired    // TTL or hop limit would reach 0
	NoRoute       // kernel has no route to the next hop
	NoNeighbour   // next hop's MAC address is not known yet
	PortDown      // egress port is down or has no queue of ours
	TooBig        // longer than the egress MTU
	HandOverFull  // ring to the owning worker is full
	TxFull        // egress ring is full
	KernelLimit   // backend's own packet beyond the rate at which the kernel gets them
	KernelFull    // likewise: ring to the kernel is full
	reasonCount
)

// Count is the number of reasons, None included: the length of arrays indexed by Reason.
const Count = int(reasonCount)

var reasons = [Count]struct{ name, text string }{
	None:            {"none", "not dropped"},
	Short:           {"short", "frame is shorter than the headers it announces"},
	NotIP:           {"not_ip", "frame is neither IPv4 nor IPv6"},
	VLANStack:       {"vlan_stack", "frame carries more than one VLAN tag"},
	BadIPHeader:     {"bad_ip_header", "IP version, header length or total length is impossible"},
	BadIPChecksum:   {"bad_ip_checksum", "IPv4 header checksum is wrong"},
	IPOptions:       {"ip_options", "IPv4 options or IPv6 extension headers that are not followed"},
	Fragment:        {"fragment", "fragment of a packet with a first fragment that did not come or was dropped, or without TCP or UDP"},
	BadFragment:     {"bad_fragment", "fragment that hides part of the transport header or exceeds the packet"},
	FragmentFull:    {"fragment_full", "too many fragments wait for the first ones of their packets, and this one was the oldest"},
	Martian:         {"martian", "no client has this source: loopback, multicast, broadcast, link-local of another link, an address of this host or of a service, or a UDP port that a backend serves"},
	BadL4Header:     {"bad_l4_header", "TCP or UDP header is impossible"},
	BadTCPFlags:     {"bad_tcp_flags", "TCP flags are impossible"},
	BadICMP:         {"bad_icmp", "ICMP error embeds nothing readable"},
	ICMPNoFlow:      {"icmp_no_flow", "ICMP error about an unknown flow"},
	UnknownProtocol: {"unknown_protocol", "neither TCP, UDP nor an ICMP error"},
	NoConnection:    {"no_connection", "packet belongs to no connection"},
	NoService:       {"no_service", "no service at this port of the address"},
	EchoRefused:     {"echo_refused", "no service at the address answers pings now (icmp_echo)"},
	NoBackend:       {"no_backend", "service has no usable backend"},
	AccessDenied:    {"access_denied", "client may not open connections ([access], sluice access)"},
	Limited:         {"limited", "service or backends have as many connections as they may ([service.limits], max_connections)"},
	BackendGone:     {"backend_gone", "connections of the backend were ended, and this packet needs no answer"},
	TableFull:       {"table_full", "connection table is full"},
	TupleTaken:      {"tuple_taken", "backend already has this client address and port through another service"},
	Hairpin:         {"hairpin", "client is the backend, or on its link: the answer would not pass the balancer, which nat needs"},
	SNATExhausted:   {"snat_exhausted", "all local ports towards the backend are in use"},
	TTLExpired:      {"ttl_expired", "TTL or hop limit ran out"},
	NoRoute:         {"no_route", "no route to the next hop"},
	NoNeighbour:     {"no_neighbour", "MAC address of the next hop is not known yet"},
	PortDown:        {"port_down", "egress port is down or is not ours"},
	TooBig:          {"too_big", "packet is longer than the egress MTU"},
	HandOverFull:    {"hand_over_full", "ring to the owning worker is full"},
	TxFull:          {"tx_full", "egress ring is full"},
	KernelLimit:     {"kernel_limit", "backends send more packets of their own than the kernel is given"},
	KernelFull:      {"kernel_full", "ring to the kernel is full"},
}

// String returns the name used in statistics, metrics and tests, for example "no_backend".
func (r Reason) String() string { return reasons[r].name }

// Text returns an explanation in a few words.
func (r Reason) Text() string { return reasons[r].text }
