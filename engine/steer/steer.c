//go:build ignore

/*
 * Steering decides where each received frame of a port goes: to Sluice, to the kernel or to the
 * prober's device. Decide in decide.go is the same decision in Go, and a test compares the two.
 *
 * A frame is read only if it is this host's: its destination MAC address is one that the port has, in
 * the VLAN of its tag, and its source is no group address. What another host was sent, and a switch
 * floods because it does not know where that host is, passes to the kernel, which drops it.
 *
 * Such a frame goes to Sluice when it belongs to
 *   a service      its destination is a service's address, port and protocol,
 *   a SNAT pool    its destination is an address and port that fullnat sends from (same rule, same maps),
 *   a VIP          its destination is a service's address that this host does not have, whatever it carries;
 *                  neighbour discovery excepted,
 *   a reply        its source is a NAT backend's address, port and protocol, and its destination is neither
 *                  this host nor an address that no client has (multicast, broadcast, loopback, link-local);
 *                  but not if the backend, or a backend that it is sent to, has opened the connection,
 *   an error       it is an ICMP error, and the answer to the packet that it quotes would go to Sluice,
 *   a fragment     not the first one of its packet, and the first one went to Sluice; or it comes before the first
 *                  one, its destination is not this host, and one of its ends could make it Sluice's.
 * A frame goes to the prober's device when it belongs to no service and no SNAT pool, and is
 *   an answer      its source is a service's address, port and protocol that is probed (tun, dr), and its
 *                  destination an address of this host and a port that probes are sent from,
 *   an error       as above: the answer to the packet that it quotes would go to the prober's device.
 * All other frames, and all that the program cannot read, pass to the kernel untouched.
 *
 * The program remembers two things about packets that it has seen: the connections that a NAT backend
 * opens, by their SYN, and for half a minute where the first fragments of packets went.
 *
 * Why "the answer" settles ICMP errors: an error goes to the sender of the packet that it quotes,
 * so the quoted packet's addresses are those of a received frame, the other way round. C is a
 * client, V a service, B a backend, L an address of a SNAT pool, H this host, "x>y" a quoted packet
 * from x to y. All errors that can arrive:
 *
 *   quoted  error to  what happened                                        answer  decision
 *   V>C     V         NAT: what we sent the client; TUN, DR: what the      C>V     Sluice (service)
 *                     backend sent it, past us
 *   C>B     C         NAT: what we sent the backend; the error must be     B>C     Sluice (reply)
 *                     translated before it can mean anything to the client
 *   L>B     L         fullnat: what we sent the backend                    B>L     Sluice (SNAT pool)
 *   H>B     H         what this host sent the backend (a health check)     B>H     kernel: H is this host
 *   H>B     H         TUN: the tunnel packet that we sent (protocol 4 or   -       kernel: nothing uses it yet
 *                     41 inside the quote)
 *   H>V     H         TUN, DR: what a probe sent the backend               V>H     prober's device
 *   C>V     C         what the client sent, before it reached us (never    V>C     kernel, to forward or drop
 *                     arrives here) or behind us in DR (TTL, no listener)
 *   B>C     B         NAT: what the backend sent, before it reached us     C>B     kernel, likewise
 *   B>L     B         fullnat: likewise                                    L>B     kernel, likewise
 * An error with a destination that is not the quoted source breaks RFC 1122 3.2.2 or RFC 4443 2.4: it
 * passes to the kernel.
 *
 * To Sluice means redirected to the AF_XDP socket of the receiving queue. A queue without a socket, or
 * with a worker that gives no heartbeat, drops the frame: a kernel that holds the service's address
 * would answer a live connection with RST, and the rings of a worker that does not run would fill, and
 * stop the host's own frames on the queue of a zero-copy driver. The prober's device exists because the kernel would drop an answer that comes from an
 * address of its own; without the device such a frame passes to the kernel.
 */

#include "bpf.h"
#include "wire.h"

#define MAX_EXTENSIONS 8

/*
 * What is known about an address: a set of bits. TO and FROM say on which end of a packet the rules
 * apply, each for TCP in the lower and for UDP in the upper four bits; within the four, which kinds
 * of rules there are, so that a map is looked up only when it can have an entry.
 */
enum role {
	EXACT = 1, /* in the map ports */
	RANGE = 2, /* in the map ranges */
	ANY = 4, /* all ports match */
	SOME = EXACT | RANGE | ANY,

	UDP_SHIFT = 4,
	TO_SHIFT = 0, /* services and SNAT pools */
	FROM_SHIFT = 8, /* NAT backends */

	LOCAL = 1 << 16, /* an address of this host */
	PROBER = 1 << 17, /* an address of this host that probes are sent from; the ports are in ranges */
	VIP = 1 << 18, /* a service's, and not of this host: all that is sent to it is Sluice's */
	OPENER = 1 << 19, /* a NAT backend that has opened a connection: set by the program itself */

	PROBED_SHIFT = 24, /* probed services: the sources of answers */
};

/* An address and port, as the end of a packet that a rule names. */
struct endpoint {
	struct address address;
	__u8 side; /* TO_SHIFT, FROM_SHIFT or PROBED_SHIFT; PROBER_SIDE */
	__u8 protocol;
	__be16 port;
};

/* A block of 2^n ports: the last n bits of the endpoint's port do not count. */
struct block {
	__u32 bits; /* ENDPOINT_BITS - n */
	struct endpoint first;
};

#define PROBER_SIDE 255
#define ENDPOINT_BITS (8 * sizeof(struct endpoint))

/* The rules: shared by the programs of all ports, written by Program.Set. */
struct {
	MAP_IS(BPF_MAP_TYPE_HASH, 65536);
	MAP_TYPES(struct address, enum role); /* all its bits */
} addresses SECTION(".maps");

struct {
	MAP_IS(BPF_MAP_TYPE_HASH, 131072);
	MAP_TYPES(struct endpoint, __u8);
} ports SECTION(".maps");

struct {
	MAP_IS(BPF_MAP_TYPE_LPM_TRIE, 131072);
	MAP_TYPES(struct block, __u8);
	MAP_FLAGS(BPF_F_NO_PREALLOC);
} ranges SECTION(".maps");

/*
 * The MAC addresses that frames to this host have, by port and VLAN: those of the port, of its VLANs
 * and of the macvlan interfaces on both.
 */
struct station {
	__u32 ifindex; /* of the port */
	__be16 mac[3];
	__u16 vlan; /* identifier; 0: untagged, or tagged with a priority only */
};

struct {
	MAP_IS(BPF_MAP_TYPE_HASH, 65536);
	MAP_TYPES(struct station, __u8);
} stations SECTION(".maps");

/*
 * One of the stations of each port, the port's own address, at the port's ifindex modulo the size:
 * a look-up in an array is no call. Of two ports at one place the array has one.
 */
#define OWN_STATIONS 256

struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, OWN_STATIONS);
	MAP_TYPES(__u32, struct station);
} own SECTION(".maps");

/*
 * The TCP connections that NAT backends have opened. An entry that is not used expires: so an old
 * one does not take a service's connection with the same ends.
 */
struct flow {
	struct address opener, peer;
	__be16 opener_port, peer_port;
};

struct opened {
	__u64 seen_ns; /* when the last packet passed */
	__u32 closing; /* one end has sent FIN or RST */
	__u32 unused;
};

#define SECOND_NS 1000000000ull
#define IDLE_NS (7440 * SECOND_NS) /* RFC 5382, REQ-5 */
#define CLOSING_NS (60 * SECOND_NS)
#define FRAGMENTS_NS (30 * SECOND_NS) /* as Linux's net.ipv4.ipfrag_time */

struct {
	MAP_IS(BPF_MAP_TYPE_LRU_HASH, 65536);
	MAP_TYPES(struct flow, struct opened);
} opened SECTION(".maps");

/*
 * Packets in fragments, and when the first one came, in ns, with the lowest bit set if it went to the
 * kernel and others could be Sluice's. An entry expires when no host would complete the packet any
 * more: another one may have its identification then.
 */
#define TO_KERNEL 1ull

struct fragments {
	struct address source, destination;
	__be32 id;
	__u32 protocol; /* 0 in IPv6, where it is not part of the identity (RFC 8200, 4.5) */
};

struct {
	MAP_IS(BPF_MAP_TYPE_LRU_HASH, 16384);
	MAP_TYPES(struct fragments, __u64);
} fragments SECTION(".maps");

/* The prober's device, empty without one; written by Program.Detour. */
struct {
	MAP_IS(BPF_MAP_TYPE_DEVMAP, 1);
	MAP_BYTES(4, 4); /* 0; interface */
} detour SECTION(".maps");

#define QUEUES 1024

/*
 * One set per port. A queue has a socket as long as it is in both maps; written by Port.Register.
 */
struct {
	MAP_IS(BPF_MAP_TYPE_HASH, QUEUES);
	MAP_TYPES(__u32, __u32); /* queue index; 1 */
} queues SECTION(".maps");

struct {
	MAP_IS(BPF_MAP_TYPE_XSKMAP, QUEUES);
	MAP_BYTES(4, 4); /* queue index; socket */
} sockets SECTION(".maps");

/*
 * When each queue's worker last said that it runs, in ns of CLOCK_MONOTONIC; 0: not yet. The worker
 * writes it into the map's memory: see Port.Heartbeat.
 */
struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, QUEUES);
	MAP_TYPES(__u32, __s64);
	MAP_FLAGS(BPF_F_MMAPABLE);
} heartbeats SECTION(".maps");

/* A worker sleeps at most for 100 ms, so that two of three heartbeats may be late. */
#define HEARTBEAT_NS (SECOND_NS * 3 / 10)

/* Each frame counts once, under its outcome. */
enum outcome {
	PASSED,
	REDIRECTED,
	NO_SOCKET,
	DETOURED,
	NO_WORKER,
	OUTCOMES,
};

struct {
	MAP_IS(BPF_MAP_TYPE_PERCPU_ARRAY, OUTCOMES);
	MAP_TYPES(enum outcome, __u64);
} counters SECTION(".maps");

enum target {
	KERNEL,
	SLUICE,
	PROBER_DEVICE,
	/* Of decide_flow only. Sluice's, unless a backend has opened the connection: */
	REPLY,
	/* The kernel's, and a connection that this packet opens must be remembered: */
	BETWEEN_BACKENDS,
};

enum piece { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

/*
 * What the parser returns. All offsets are bytes from the start of the frame. It is created zeroed.
 */
struct packet {
	struct address source, destination;
	__u32 payload; /* offset of the header behind IP's */
	__u32 limit; /* offset of the end of the packet; padding follows */
	__be16 source_port, destination_port; /* TCP and UDP, but not of a LATER_FRAGMENT */
	__be32 id; /* of a fragment */
	__u8 protocol; /* of a LATER_FRAGMENT: what IP's header or the fragment header says */
	__u8 piece;
	__u8 hops; /* hop limit, in IPv6 */
	__u8 is_ipv6;
	__u8 from_opener, to_opener; /* whether the source, the destination is an OPENER */
};

INLINE int same(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

INLINE int is_mapped(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == swap32(0xffff);
}

INLINE struct address mapped(__be32 ipv4)
{
	return (struct address){ { 0, 0, swap32(0xffff), ipv4 } };
}

/* Whether no client has such an address: no router forwards to it. */
INLINE int is_no_client(const struct address *a)
{
	__u8 net = a->word[3] & 0xff;

	if (is_mapped(a))
		return net == 0 || net == 127 || net >= 224;
	if (!a->word[0] && !a->word[1] && !a->word[2]) /* unspecified, loopback */
		return 1;
	return (a->word[0] & swap32(0xff000000)) == swap32(0xff000000) || /* multicast */
	       (a->word[0] & swap32(0xffc00000)) == swap32(0xfe800000); /* link-local */
}

INLINE int is_extension(__u8 next)
{
	return next == HOP_BY_HOP || next == ROUTING || next == DESTINATION_OPTIONS;
}

/* Where the IP header is. */
#define UNTAGGED sizeof(struct ethernet)
#define TAGGED (UNTAGGED + sizeof(struct tag))

/*
 * load, read_at and read copy the bytes at an offset of the frame into *to, and return whether the
 * frame is that long.
 *
 * read_at is fast, but only with CAP_PERFMON does the kernel let a program move a pointer into the
 * frame by an offset that is not a constant; load needs no pointer, and costs some thirty
 * nanoseconds. So read uses read_at for the offset that a header has without IP options and
 * extension headers, counted from the IP header, and load for all others. The addition is in
 * assembler because the compiler prefers a register that it knows to hold the constant.
 */
#define load(ctx, offset, to) (!bpf_xdp_load_bytes(ctx, offset, to, sizeof(*(to))))

#define read_at(ctx, offset, to)                                                  \
	({                                                                        \
		const typeof(*(to)) *from = (void *)(__u64)(ctx)->data;           \
		asm("%0 += %1" : "+r"(from) : "i"(offset));                       \
		int there = (void *)(from + 1) <= (void *)(__u64)(ctx)->data_end; \
		if (there)                                                        \
			*(to) = *from;                                            \
		there;                                                            \
	})

#define read(ctx, offset, behind_ip, to)                                                 \
	((offset) == UNTAGGED + (behind_ip) ? read_at(ctx, UNTAGGED + (behind_ip), to) : \
	 (offset) == TAGGED + (behind_ip)   ? read_at(ctx, TAGGED + (behind_ip), to) :   \
					      load(ctx, offset, to))

/*
 * Stores the bytes at the place of TCP's and UDP's ports as p's ports, if p has ports. Returns 0 if
 * they are missing.
 */
INLINE int set_ports(struct packet *p, int there, const struct ports *ports)
{
	if ((p->protocol != TCP && p->protocol != UDP) || p->piece == LATER_FRAGMENT)
		return 1;
	if (!there || p->payload + sizeof(*ports) > p->limit)
		return 0;
	p->source_port = ports->source;
	p->destination_port = ports->destination;
	return 1;
}

/*
 * The parsers return whether the packet at offset at can be read. If only what follows the IP header
 * cannot, they have set the addresses. The caller sets p->limit to the length of the frame, and the
 * parser lowers it to the end of the packet. A quoted packet is cut off somewhere: its length field
 * means nothing, and p->limit stays.
 */
INLINE int parse_ipv4(struct xdp_md *ctx, __u32 at, int quoted, struct packet *p)
{
	struct ports ports = {};
	struct ipv4 ip;

	if (!read(ctx, at, 0, &ip))
		return 0;
	__u32 header = (ip.version_words & 15) * 4;
	if (ip.version_words >> 4 != 4 || header < sizeof(ip))
		return 0;
	if (!quoted) {
		__u32 limit = at + swap16(ip.length);
		if (limit > p->limit)
			return 0;
		p->limit = limit;
	}
	p->payload = at + header;
	if (p->payload > p->limit)
		return 0;
	__u16 fragment = swap16(ip.fragment);
	p->piece = fragment & IPV4_FRAGMENT_OFFSET ? LATER_FRAGMENT :
		   fragment & IPV4_MORE_FRAGMENTS  ? FIRST_FRAGMENT :
						     WHOLE;
	p->id = ip.id;
	p->source = mapped(ip.source);
	p->destination = mapped(ip.destination);
	p->protocol = ip.protocol;
	int there = read(ctx, p->payload, sizeof(ip), &ports);
	return set_ports(p, there, &ports);
}

/*
 * Moves p->payload behind the extension headers. The first one, of type next, is at p->payload.
 * More than MAX_EXTENSIONS of them, the fragment header included, are not read.
 */
INLINE int parse_extensions(struct xdp_md *ctx, __u8 next, struct packet *p)
{
	p->piece = WHOLE;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		struct extension header;

		if (!is_extension(next) && next != FRAGMENT) {
			p->protocol = next;
			return 1;
		}
		if (i == MAX_EXTENSIONS || !load(ctx, p->payload, &header))
			return 0;
		if (next == ROUTING && header.segments_left) /* on its way to another host */
			return 0;
		p->payload += next == FRAGMENT ? 8 : (header.length + 1) * 8;
		if (next == FRAGMENT) {
			__u16 fragment = swap16(header.fragment);
			p->id = header.rest;
			if (fragment & IPV6_FRAGMENT_OFFSET) {
				p->protocol = header.next;
				p->piece = LATER_FRAGMENT;
				return 1;
			}
			if (fragment & IPV6_MORE_FRAGMENTS)
				p->piece = FIRST_FRAGMENT;
		}
		next = header.next;
	}
	return 0;
}

INLINE int parse_ipv6(struct xdp_md *ctx, __u32 at, int quoted, struct packet *p)
{
	struct ports ports = {};
	struct ipv6 ip;

	if (!read(ctx, at, 0, &ip))
		return 0;
	if (swap32(ip.version_class_flow) >> 28 != 6)
		return 0;
	p->payload = at + sizeof(ip);
	if (!quoted) {
		__u32 limit = p->payload + swap16(ip.length);
		if (limit > p->limit)
			return 0;
		p->limit = limit;
	}
	/* Mapped addresses are not used on a wire, and in the maps they mean IPv4. */
	if (is_mapped(&ip.source) || is_mapped(&ip.destination))
		return 0;
	p->source = ip.source;
	p->destination = ip.destination;
	p->hops = ip.hop_limit;
	p->is_ipv6 = 1;
	if (!parse_extensions(ctx, ip.next, p) || p->payload > p->limit)
		return 0;
	int there = read(ctx, p->payload, sizeof(ip), &ports);
	return set_ports(p, there, &ports);
}

SUBPROGRAM int parse(struct xdp_md *ctx, __u32 at, int is_ipv6, int quoted, struct packet *p)
{
	return is_ipv6 ? parse_ipv6(ctx, at, quoted, p) : parse_ipv4(ctx, at, quoted, p);
}

INLINE __u32 roles_of(const struct address *a)
{
	__u32 *roles = bpf_map_lookup_elem(&addresses, a);

	return roles ? *roles : 0;
}

/* Whether a rule of a side names one end of p. The roles are those of the end's address. */
INLINE int matches(const struct packet *p, __u32 roles, __u8 side, const struct address *address, __be16 port)
{
	struct block key = { ENDPOINT_BITS, { *address, side, p->protocol, port } };

	roles >>= side;
	if (p->protocol == UDP)
		roles >>= UDP_SHIFT;
	if (roles & ANY)
		return 1;
	if (roles & EXACT && bpf_map_lookup_elem(&ports, &key.first))
		return 1;
	return roles & RANGE && bpf_map_lookup_elem(&ranges, &key);
}

/* Whether there can be services of this protocol. */
INLINE int is_balanced(__u8 protocol)
{
	return protocol == TCP || protocol == UDP;
}

/* Whether p answers a probe. Its destination must be an address that probes are sent from. */
INLINE int answers_probe(const struct packet *p)
{
	struct block to = { ENDPOINT_BITS, { p->destination, PROBER_SIDE, p->protocol, p->destination_port } };

	if (p->piece != WHOLE || !bpf_map_lookup_elem(&ranges, &to))
		return 0;
	return matches(p, roles_of(&p->source), PROBED_SHIFT, &p->source, p->source_port);
}

/* Decides about a packet of a balanced protocol that has ports. Sets p->openers for REPLY. */
SUBPROGRAM int decide_flow(struct packet *p)
{
	__u32 to = roles_of(&p->destination);

	if (matches(p, to, TO_SHIFT, &p->destination, p->destination_port) || to & VIP)
		return SLUICE;
	if (to & PROBER && answers_probe(p))
		return PROBER_DEVICE;
	if (to & LOCAL || is_no_client(&p->destination))
		return KERNEL;
	__u32 from = roles_of(&p->source);
	p->from_opener = !!(from & OPENER);
	p->to_opener = !!(to & OPENER);
	if (matches(p, from, FROM_SHIFT, &p->source, p->source_port))
		return REPLY;
	if (p->protocol == TCP && from & SOME << FROM_SHIFT && to & SOME << FROM_SHIFT)
		return BETWEEN_BACKENDS;
	return KERNEL;
}

/* Returns the TCP flags of p, or 0 if they are missing. */
INLINE __u8 flags_of(struct xdp_md *ctx, const struct packet *p)
{
	__u32 at = p->payload + TCP_FLAGS_AT;
	__u8 flags = 0;

	if (at >= p->limit)
		return 0;
	int there = p->is_ipv6 ? read(ctx, at, sizeof(struct ipv6) + TCP_FLAGS_AT, &flags) :
				 read(ctx, at, sizeof(struct ipv4) + TCP_FLAGS_AT, &flags);
	return there ? flags : 0;
}

/* Remembers the connection that the SYN p opens. */
INLINE void remember_opened(const struct packet *p)
{
	struct flow flow = { p->source, p->destination, p->source_port, p->destination_port };
	struct opened opening = { .seen_ns = bpf_ktime_get_coarse_ns() };
	__u32 *roles = bpf_map_lookup_elem(&addresses, &p->source);

	/* The one writer beside Program.Set, which keeps the bit; all CPUs write the same one. */
	if (roles && !bpf_map_update_elem(&opened, &flow, &opening, BPF_ANY))
		*roles |= OPENER;
}

/* Returns the entry of a connection if it has not expired. */
INLINE struct opened *find_opened(const struct flow *flow)
{
	struct opened *found = bpf_map_lookup_elem(&opened, flow);

	if (!found || bpf_ktime_get_coarse_ns() - found->seen_ns > (found->closing ? CLOSING_NS : IDLE_NS))
		return 0;
	return found;
}

/*
 * Whether the packet p, which is a NAT backend's, belongs to a connection that a backend has opened:
 * its sender, or the backend that it is sent to.
 */
INLINE int is_opened(const struct packet *p, __u8 flags)
{
	struct flow flow = { p->source, p->destination, p->source_port, p->destination_port };
	struct flow back = { p->destination, p->source, p->destination_port, p->source_port };
	struct opened *found = 0;

	if (p->from_opener)
		found = find_opened(&flow);
	if (found && (flags & (SYN | ACK)) == (SYN | ACK)) {
		/* An end that accepts a connection has not opened it: the entry is of an older one. */
		bpf_map_delete_elem(&opened, &flow);
		found = 0;
	}
	if (!found && p->to_opener)
		found = find_opened(&back);
	if (!found)
		return 0;
	found->seen_ns = bpf_ktime_get_coarse_ns();
	if (flags & (FIN | RST))
		found->closing = 1;
	return 1;
}

/* Whether a packet of REPLY or BETWEEN_BACKENDS with these flags opens a connection, or may be of one. */
INLINE int may_be_opened(const struct packet *p, __u8 flags)
{
	return (flags & (FIN | SYN | RST | ACK)) == SYN || p->from_opener || p->to_opener;
}

/*
 * Decides about such a packet, of TCP, if it may be. Of a quoted one the flags are 0.
 */
SUBPROGRAM int decide_backend(const struct packet *p, int target, __u8 flags)
{
	if ((flags & (FIN | SYN | RST | ACK)) == SYN) {
		remember_opened(p);
		return KERNEL;
	}
	return target == REPLY && !is_opened(p, flags) ? SLUICE : KERNEL;
}

INLINE struct packet answer_to(const struct packet *p)
{
	struct packet answer = *p;

	answer.source = p->destination;
	answer.destination = p->source;
	answer.source_port = p->destination_port;
	answer.destination_port = p->source_port;
	return answer;
}

/*
 * Unreachable, source quench, time exceeded, parameter problem; ICMPv6: unreachable, too big, the
 * last two.
 */
INLINE int is_error(__u8 type, int is_ipv6)
{
	if (is_ipv6)
		return type >= 1 && type <= 4;
	return type == 3 || type == 4 || type == 11 || type == 12;
}

/* Decides about a packet that no rule with a port can name: it is Sluice's if it is sent to a VIP. */
INLINE int decide_rest(const struct packet *p)
{
	return roles_of(&p->destination) & VIP ? SLUICE : KERNEL;
}

/* Whether p is neighbour discovery from the same link: others' has passed a router (RFC 4861, 7.1). */
INLINE int is_discovery(const struct packet *p, __u8 type)
{
	return p->is_ipv6 && p->hops == 255 && type >= 133 && type <= 137;
}

/* Decides about the ICMP or ICMPv6 message in p. */
INLINE int decide_icmp(struct xdp_md *ctx, const struct packet *p)
{
	struct packet quoted = { .limit = p->limit };
	struct icmp icmp;

	if (p->payload + sizeof(icmp) > p->limit || !load(ctx, p->payload, &icmp))
		return decide_rest(p);
	if (is_discovery(p, icmp.type))
		return KERNEL;
	if (!is_error(icmp.type, p->is_ipv6))
		return decide_rest(p);
	if (!parse(ctx, p->payload + sizeof(icmp), p->is_ipv6, 1, &quoted) || !same(&quoted.source, &p->destination))
		return decide_rest(p);
	if (!is_balanced(quoted.protocol) || quoted.piece == LATER_FRAGMENT)
		return decide_rest(p);
	struct packet answer = answer_to(&quoted);
	int target = decide_flow(&answer);
	if (target < REPLY)
		return target;
	if (answer.protocol == TCP)
		return decide_backend(&answer, target, 0);
	return target == REPLY ? SLUICE : KERNEL;
}

INLINE struct fragments fragments_of(const struct packet *p)
{
	return (struct fragments){ p->source, p->destination, p->id, p->is_ipv6 ? 0 : p->protocol };
}

/*
 * Whether a fragment may be Sluice's that has no ports and comes before the first one. If it was sent
 * to this host it is the kernel's, which completes the packet.
 */
INLINE int may_be_ours(const struct packet *p)
{
	__u32 to = roles_of(&p->destination);

	if (to & VIP)
		return 1;
	if (!is_balanced(p->protocol) || to & LOCAL || is_no_client(&p->destination))
		return 0;
	to = to >> TO_SHIFT | roles_of(&p->source) >> FROM_SHIFT;
	return !!((p->protocol == UDP ? to >> UDP_SHIFT : to) & SOME);
}

/* Decides about a later fragment: it goes where the first one went. */
INLINE int decide_later(const struct packet *p)
{
	struct fragments key = fragments_of(p);
	__u64 *first_ns = bpf_map_lookup_elem(&fragments, &key);

	if (first_ns && bpf_ktime_get_coarse_ns() - (*first_ns & ~TO_KERNEL) <= FRAGMENTS_NS)
		return *first_ns & TO_KERNEL ? KERNEL : SLUICE;
	return may_be_ours(p) ? SLUICE : KERNEL;
}

/* Remembers where the later fragments of the packet with the first fragment p go. */
INLINE void remember_fragments(const struct packet *p, int target)
{
	struct fragments key = fragments_of(p);
	__u64 now_ns = bpf_ktime_get_coarse_ns() & ~TO_KERNEL;

	if (target != SLUICE)
		now_ns |= TO_KERNEL;
	if (target == SLUICE || may_be_ours(p))
		bpf_map_update_elem(&fragments, &key, &now_ns, BPF_ANY);
	else
		bpf_map_delete_elem(&fragments, &key);
}

/* Decides about the IP packet p, other than a later fragment. */
INLINE int decide_packet(struct xdp_md *ctx, struct packet *p)
{
	if (is_balanced(p->protocol)) {
		int target = decide_flow(p);
		if (target < REPLY)
			return target;
		__u8 flags = p->protocol == TCP ? flags_of(ctx, p) : 0;
		if (p->protocol == TCP && may_be_opened(p, flags))
			return decide_backend(p, target, flags);
		return target == REPLY ? SLUICE : KERNEL;
	}
	if (p->piece == WHOLE && p->protocol == (p->is_ipv6 ? ICMPV6 : ICMP))
		return decide_icmp(ctx, p);
	return decide_rest(p);
}

/* Whether this host is the one that the frame was sent to. */
INLINE int is_ours(const struct xdp_md *ctx, const struct ethernet *ethernet, __u16 vlan)
{
	const __be16 *mac = ethernet->destination;
	struct station to = { ctx->ingress_ifindex, { mac[0], mac[1], mac[2] }, vlan };
	__u32 place = to.ifindex % OWN_STATIONS;
	const struct station *usual = bpf_map_lookup_elem(&own, &place);

	if (usual && usual->ifindex == to.ifindex && usual->vlan == vlan && usual->mac[0] == mac[0] &&
	    usual->mac[1] == mac[1] && usual->mac[2] == mac[2])
		return 1;
	return !!bpf_map_lookup_elem(&stations, &to);
}

INLINE int decide(struct xdp_md *ctx)
{
	struct packet p = { .limit = bpf_xdp_get_buff_len(ctx) };
	struct ethernet ethernet;
	struct tag tag;
	__u32 at = sizeof(ethernet);
	__u16 vlan = 0;

	if (!read_at(ctx, 0, &ethernet) || (ethernet.destination[0] | ethernet.source[0]) & GROUP)
		return KERNEL;
	__u16 type = swap16(ethernet.type);
	if (type == TYPE_TAG || type == TYPE_SERVICE_TAG) {
		if (!read_at(ctx, UNTAGGED, &tag))
			return KERNEL;
		vlan = swap16(tag.control) & TAG_VLAN;
		if (vlan && type == TYPE_SERVICE_TAG) /* the VLANs are those of 802.1Q */
			return KERNEL;
		type = swap16(tag.type);
		at += sizeof(tag);
	}
	if (type != TYPE_IPV4 && type != TYPE_IPV6)
		return KERNEL;
	if (!is_ours(ctx, &ethernet, vlan))
		return KERNEL;
	if (!parse(ctx, at, type == TYPE_IPV6, 0, &p))
		return decide_rest(&p);
	if (p.piece == LATER_FRAGMENT)
		return decide_later(&p);
	int target = decide_packet(ctx, &p);
	if (p.piece == FIRST_FRAGMENT)
		remember_fragments(&p, target);
	return target;
}

INLINE void count(enum outcome outcome)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &outcome);

	if (counter)
		++*counter;
}

/* Whether the queue's worker has said that it runs, but too long ago. The coarse clock may lag behind. */
INLINE int is_silent(__u32 queue)
{
	const __s64 *beat_ns = bpf_map_lookup_elem(&heartbeats, &queue);

	return beat_ns && *beat_ns && (__s64)bpf_ktime_get_coarse_ns() - *beat_ns > (__s64)HEARTBEAT_NS;
}

INLINE int redirect(__u32 queue)
{
	int action = XDP_DROP;
	enum outcome outcome = NO_SOCKET;

	if (is_silent(queue))
		outcome = NO_WORKER;
	else if (bpf_map_lookup_elem(&queues, &queue))
		action = bpf_redirect_map(&sockets, queue, XDP_DROP);
	count(action == XDP_DROP ? outcome : REDIRECTED);
	return action;
}

SECTION("xdp")
int sluice_steer(struct xdp_md *ctx)
{
	int action = XDP_PASS;

	switch (decide(ctx)) {
	case SLUICE:
		return redirect(ctx->rx_queue_index);
	case PROBER_DEVICE:
		action = bpf_redirect_map(&detour, 0, XDP_PASS);
	}
	count(action == XDP_PASS ? PASSED : DETOURED);
	return action;
}

/* This program calls no helper that is reserved for GPL programs, so any string will do. */
char license_text[] SECTION("license") = "Sluice";
