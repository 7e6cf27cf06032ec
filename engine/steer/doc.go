// Package steer decides, in the driver, which received frames are Sluice's and which the kernel's:
// it loads an XDP program (steer.c), attaches it to ports and keeps its maps in step with the
// configuration.
//
// # What is ours
//
// A frame is redirected to the AF_XDP socket of its receiving queue when
//
//   - its destination is a service's, or lies in a fullnat pool (Rules.Services, Rules.Pools);
//   - its source is a NAT backend's and its destination somebody else's (Rules.Replies): not this
//     host's (Rules.Locals), so that health checks and SSH between this host and its backends stay
//     the kernel's, and not multicast, broadcast, loopback or link-local;
//   - it is an ICMP or ICMPv6 error, and the answer to the packet that it quotes would be ours. The
//     comment at the top of steer.c lists the cases of NAT, FullNAT, TUN and DR one by one;
//   - it is a fragment, the first or a later one, to a service's address or from a NAT backend's to
//     somebody else, with that rule's protocol. Of the fragments to a pool address that is also one
//     of this host's, only the first is ours, and only with a port of the pool: the host's own
//     later fragments can't be told apart, and without its first fragment the kernel never
//     completes, and so never answers, a packet of ours.
//
// An answer to a health probe that took the path of tun or dr (package engine/health/truepath)
// comes from a service's address, which this host may have itself: the kernel would drop it. So
// what comes from a probed service (Rules.Probed) to a port that probes are sent from
// (Rules.Probers), and errors about such packets, are redirected to the prober's own interface
// (Program.Detour). Fragments are not.
//
// All else passes to the kernel untouched: ARP, ND, ping, other ports of a service's address,
// frames to a group MAC address, frames behind two tags, and whatever the program can't read
// (truncated, unknown extension headers, a routing header with segments left). One 802.1Q or
// 802.1ad tag is stepped over; rules hold in every VLAN.
//
// The program never looks at a checksum, a TTL or a TCP flag: to judge and to count what is wrong
// with a frame of ours is the pipeline's.
//
// A frame of ours on a queue without a socket is dropped and counted, never passed: a kernel that
// holds the service's address would answer a live connection with RST.
//
// # Limits
//
//   - Linux 5.18 or newer; CAP_BPF and CAP_NET_ADMIN. Who lacks CAP_SYS_ADMIN can't ask for the
//     name of a program that is already on an interface, and is told that it is a foreign one.
//   - A reply rule for any port takes all that the backend sends to others with that protocol, its
//     own requests included: the program knows no connections.
//   - A port that strips VLAN tags in hardware (ethtool: rxvlan) hides them from XDP, and the frame
//     that the socket gets has none. Turn that off where VLANs are used.
//   - In Generic mode the kernel's GRO runs before the program and builds frames larger than a UMEM
//     chunk. Turn GRO off on such ports.
//   - Rules: 32,768 addresses, 65,536 single ports, 65,536 power-of-two blocks of port ranges (a
//     range needs at most 30). Queues: 0 to 1023.
//
// # Speed
//
// What the kernel keeps costs two hash lookups by address (destination, source). A service's frame
// costs the first of them, a second one for its port ("any port" needs none, a range asks a prefix
// trie) and the queue's socket.
//
// # Life
//
// The program is attached by a link that this process holds, so that the kernel detaches it when
// the process ends, however it ends. The rules are shared by all ports, sockets and counters are
// each port's own.
package steer
