// Package steer decides, in the driver, where each received frame of a port goes: to Sluice, to the
// kernel or to the health prober. It loads an XDP program (steer.c), attaches it to ports and keeps
// its maps in step with the configuration.
//
// # The decision
//
// Decider.DecideAt in decide.go is the decision in Go, and the specification of the XDP program; a
// test gives the same packets to both.
//
// Only frames that were sent to this host are read (Rules.Stations): the port has the destination
// MAC address in the VLAN of the frame's tag. A switch floods what it has no port for. If two
// balancers took each other's flooded frames, a packet would be forwarded twice; in dr, where a
// forwarded frame differs in its MAC addresses only, each would forward the other's until the TTL
// is used up. The kernel drops such frames (PACKET_OTHERHOST). A frame to a group address passes to
// the kernel, too, and so does one from a group address: an answer would go to all hosts.
//
// Such a frame goes to Sluice when
//
//   - its destination is a service or lies in a SNAT pool (Rules.Services, Rules.Pools);
//   - its source is a NAT backend (Rules.Replies), and its destination is neither an address of
//     this host (Rules.Locals) nor a multicast, broadcast, loopback or link-local address. So
//     health checks and SSH between this host and its backends remain with the kernel;
//   - it is an ICMP or ICMPv6 error, and the answer to the packet that it quotes would go to
//     Sluice. The comment at the top of steer.c lists the cases of NAT, FullNAT, TUN and DR one by
//     one;
//   - it is a later fragment of a packet with a first fragment that went to Sluice within the last
//     30 seconds. One that arrives before the first fragment goes to Sluice if a rule names its
//     destination or (Rules.Replies) its source, with its protocol, and this host does not have the
//     destination. Else it passes to the kernel, which completes the packet if it is its own, and
//     drops it after a while if it is a service's;
//   - its destination is a service's address that this host does not have (Rules.VIPs), whatever it
//     carries. A kernel that forwards would send it back to the router that it came from.
//     Neighbour discovery with hop limit 255 is excepted: the kernel may answer for the address.
//
// A reply that belongs to a TCP connection which a backend has opened passes to the kernel instead:
// the program remembers connections by their SYN from a backend. They may go from the port of a
// reply rule to anywhere, or from any port of a backend to such a port of another one. An entry is
// forgotten after two hours without a packet, and a minute after FIN or RST. If the backend accepts
// a connection with the same ends (SYN and ACK), the entry is an older one and removed.
//
// Such a frame is redirected to the AF_XDP socket of the receiving queue. If the queue has no
// socket it is dropped and counted, never passed: a kernel that holds the service's address would
// answer a live connection with RST. The same holds while the queue's worker does not run
// (Port.Heartbeat): the rings of a process that was killed or stopped do not fill, and the host's
// own frames on the queue go on. A process that takes a former one's place (Program.Inherit) has
// its counters too.
//
// An answer to a health probe that took the path of tun or dr (package engine/health/truepath)
// comes from the service's address. This host may have that address itself, and then its kernel
// would drop the answer. So frames from a probed service (Rules.Probed) to a port that probes are
// sent from (Rules.Probers), and errors about such packets, are redirected to the prober's own
// interface (Program.Detour). Their fragments are not.
//
// All other frames pass to the kernel untouched: ARP, ND, ping and other ports of a service's
// address that the host has, frames to other MAC addresses, frames with two VLAN tags, and all that
// the program cannot read (truncated headers, more than eight extension headers, a routing header
// with segments left). It skips one 802.1Q tag, and an 802.1ad tag without a VLAN; the rules about
// addresses hold in every VLAN that the port has.
//
// The program reads no checksum, and TCP flags only in packets of NAT backends. The pipeline judges
// whether a frame is right, and counts those that are not.
//
// # Limits
//
//   - Linux 5.18 or newer; CAP_BPF and CAP_NET_ADMIN. Without CAP_SYS_ADMIN the kernel does not
//     give the name of a program that is already on an interface, and Attach reports it as foreign.
//   - A reply rule for UDP and any port applies to all that the backend sends to others, its own
//     requests included. So does one for TCP if the program has not seen the connection's SYN.
//   - A port that strips VLAN tags in hardware (ethtool: rxvlan) hides them from XDP, and from the
//     frame that the socket receives. Package platform/linux turns that off. A veth hides the tags
//     that its other end leaves to hardware (txvlan): turn that off there.
//   - In Generic mode the kernel's GRO runs before the program and builds frames larger than a UMEM
//     chunk. Turn GRO off on such ports.
//   - Rules: 524,288 addresses, 524,288 single ports and power-of-two blocks of port ranges (a
//     range needs at most 30). Queues: 0 to 1023. Connections opened by backends: 65,536; packets
//     in fragments: 16,384; the least recently used ones are forgotten. MAC addresses of ports and
//     VLANs: 32,768.
//
// # Speed
//
// That a frame was sent to this host costs an array lookup if it has the port's own MAC address (8
// ns of 120), else a hash lookup. A frame that passes to the kernel costs two hash lookups by
// address (destination, source). A service's frame costs the first of them, a second one for its
// port ("any port" needs none, a range needs a lookup in a prefix trie), and one for the queue's
// socket. A NAT backend's frame costs one more if the backend, or the one that it sends to, has
// ever opened a connection.
//
// # Lifetime
//
// The program is attached by a link that this process holds, so the kernel detaches it when the
// process ends, in whatever way, unless a holder has a copy of the link: see inherit.go. Then the
// program goes on until the next process's takes its place in the link. All ports share the rules;
// each has its own sockets and counters.
package steer
