//go:build ignore

/*
 * The sender in the kernel. BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (Documentation/bpf/bpf_prog_run.rst)
 * runs this program again and again on pages that it takes from a pool; each run makes the next frame and has it
 * sent by XDP_TX, or says XDP_DROP while no frame is due, which gives the page back at once.
 *
 * The kernel fills a page when it is new, and not when it comes back from the receiver, which may have changed it:
 * so all headers and the stamp are written in each run. What follows them is zero and stays so.
 *
 * One thread runs the program on one CPU, so that the state needs no atomics. What is sent, and in which order, is
 * exactly what frame.Builder and flow.Chooser of the Go side give.
 */
#include "wire.h"

/* Addresses times ports: item i is address i / ports, port i % ports. */
struct endpoints {
	__u32 be_address[4]; /* the first one; IPv4 in the last word */
	__u32 first; /* its last word in host order */
	__u32 addresses;
	__u32 first_port;
	__u32 ports;
};

enum pick {
	PICK_ROUND, /* one flow after the other */
	PICK_UNIFORM, /* any flow, all equally likely */
	PICK_ZIPF, /* by the alias table */
	PICK_SYN, /* SYN from any source */
	PICK_CHURN, /* connections that open, send and close */
};

#define SIZES 16

/* What is to be sent; constant while the program is loaded, so that the verifier removes what isn't used. */
struct plan {
	struct endpoints source;
	struct endpoints destination;
	__u64 gap; /* time between two frames in 2^-16 ns; 0: as fast as possible */
	__u64 limit; /* frames; 0: none */
	__u64 ip_sum; /* ones' complement sums, in this machine's order, of what is the same in each packet */
	__u64 l4_sum;
	__u32 ip[10]; /* headers as they stand in the frame, zero where the packet differs */
	__u32 l4[5];
	__u16 ethernet[7];
	__u16 sizes[SIZES]; /* frame sizes in bytes, chosen at random if several */
	__u16 size_count;
	__u16 largest; /* that the kernel makes the frames with */
	enum pick pick;
	__u32 flows; /* different flows */
	__u32 concurrent; /* PICK_CHURN: connections that are open at the same time */
	__u32 steps; /* PICK_CHURN: packets in a connection */
	__u8 ipv6;
	__u8 tcp;
	__u8 stamped;
	__u8 stream;
};

const volatile struct plan plan SECTION(".rodata");

/* Written by the program only, read by user space at any time. */
struct state {
	__u64 sent; /* frames handed to the interface */
	__u64 bytes; /* in them */
	__u64 start; /* of the first run, ns of CLOCK_MONOTONIC; stays 0 without a rate */
	__u64 first; /* when the first frame was sent, ns of CLOCK_MONOTONIC */
	__u64 last; /* and the last one */
	__u64 next; /* when the next frame is due, in 2^-16 ns after start */
	__u64 random;
	__u32 flow; /* PICK_ROUND: next flow; PICK_CHURN: next of the concurrent connections */
	__u32 step; /* PICK_CHURN: packets of these connections that are sent */
	__u32 base; /* PICK_CHURN: first of these connections */
};

struct state state;

/* Set by user space when no more is to be sent; the runs that are left do nothing. */
__u32 stopped;

/* How many frames of each flow have been sent. */
struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, 1);
	MAP_TYPES(__u32, __u32);
	MAP_FLAGS(BPF_F_MMAPABLE);
} sequences SECTION(".maps");

/* Vose's alias method: column i gives flow i if the second number drawn is below stay, other flow else. */
struct column {
	__u32 stay;
	__u32 other;
};

struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, 1);
	MAP_TYPES(__u32, struct column);
} aliases SECTION(".maps");

/* One packet to be made. */
struct shot {
	__u32 tuple; /* picks addresses and ports */
	__u32 flow; /* in the stamp */
	__u32 sequence; /* in the stamp and in the TCP header */
	__u8 tcp_flags;
};

/* SplitMix64 (Steele, Lea, Flood 2014), as flow.Random. */
INLINE __u64 random64(void)
{
	__u64 z = state.random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* A number below n. */
INLINE __u32 below(__u32 n)
{
	return ((random64() >> 32) * n) >> 32;
}

/* How far a sender that was held up may be behind and still make up for it: 100 ms. */
#define BACKLOG (100000000ULL << 16)

/* Says whether a frame may be sent now, and if so takes its turn. */
INLINE int due(__u64 now)
{
	if (*(volatile __u32 *)&stopped || (plan.limit && state.sent >= plan.limit))
		return 0;
	if (!plan.gap)
		return 1;
	if (!state.start)
		state.start = now;
	__u64 at = (now - state.start) << 16;

	if (at < state.next)
		return 0;
	if (at > state.next + BACKLOG)
		state.next = at - BACKLOG;
	state.next += plan.gap;
	return 1;
}

INLINE void choose_zipf(struct shot *s)
{
	__u32 column = below(plan.flows);
	__u32 coin = random64() >> 32;
	struct column *c = bpf_map_lookup_elem(&aliases, &column);

	s->flow = column;
	if (c && coin >= c->stay)
		s->flow = c->other;
}

/* Goes round the open connections, sending packet step of each; then the next packet, then new connections. */
INLINE __u32 choose_churn(struct shot *s)
{
	__u32 step = state.step;

	s->flow = state.base + state.flow;
	if (s->flow >= plan.flows)
		s->flow -= plan.flows;
	if (++state.flow >= plan.concurrent) {
		state.flow = 0;
		if (++state.step >= plan.steps) {
			state.step = 0;
			state.base += plan.concurrent;
			if (state.base >= plan.flows)
				state.base -= plan.flows;
		}
	}
	return step;
}

INLINE __u8 churn_flags(__u32 step)
{
	if (step == 0)
		return TCP_SYN;
	if (step == plan.steps - 1)
		return TCP_FIN_ACK;
	return step == 1 ? TCP_ACK : TCP_PSH_ACK;
}

INLINE int choose(struct shot *s)
{
	__u32 step = 0;
	__u32 *sequence;

	s->flow = 0;
	if (plan.pick == PICK_ROUND) {
		s->flow = state.flow;
		if (++state.flow >= plan.flows)
			state.flow = 0;
	} else if (plan.pick == PICK_UNIFORM) {
		s->flow = below(plan.flows);
	} else if (plan.pick == PICK_ZIPF) {
		choose_zipf(s);
	} else if (plan.pick == PICK_CHURN) {
		step = choose_churn(s);
	}
	s->tuple = s->flow;
	if (plan.pick == PICK_SYN)
		s->tuple = below(plan.source.addresses * plan.source.ports);
	sequence = bpf_map_lookup_elem(&sequences, &s->flow);
	if (!sequence)
		return 0;
	s->sequence = (*sequence)++;
	if (plan.pick == PICK_SYN)
		s->tcp_flags = TCP_SYN;
	else if (plan.pick == PICK_CHURN)
		s->tcp_flags = churn_flags(step);
	else
		s->tcp_flags = s->sequence ? TCP_PSH_ACK : TCP_SYN;
	return 1;
}

INLINE __u32 be_address_of(const volatile struct endpoints *e, __u32 item)
{
	if (e->addresses == 1)
		return e->be_address[3];
	return swap32(e->first + item / e->ports % e->addresses);
}

INLINE __u16 be_port_of(const volatile struct endpoints *e, __u32 item)
{
	if (e->ports == 1)
		return swap16(e->first_port);
	return swap16(e->first_port + item % e->ports);
}

INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#define PUT(type, at, value) (*(type *)(at) = (value))

/* Copies words that the compiler knows the number of. */
#define COPY(type, to, from, words) \
	_Pragma("unroll") for (int i = 0; i < (words); i++) ((type *)(to))[i] = (from)[i]

INLINE void write_ipv4(void *ip, __u32 source, __u32 destination, __u16 be_length)
{
	COPY(__u32, ip, plan.ip, IPV4_BYTES / 4);
	PUT(__u16, ip + IPV4_LENGTH_AT, be_length);
	PUT(__u32, ip + IPV4_SOURCE_AT, source);
	PUT(__u32, ip + IPV4_DESTINATION_AT, destination);
	PUT(__u16, ip + IPV4_CHECKSUM_AT, fold(plan.ip_sum + source + destination + be_length));
}

INLINE void write_ipv6(void *ip, __u32 source, __u32 destination, __u16 be_length)
{
	COPY(__u32, ip, plan.ip, IPV6_BYTES / 4);
	PUT(__u16, ip + IPV6_LENGTH_AT, be_length);
	PUT(__u32, ip + IPV6_SOURCE_AT + 12, source);
	PUT(__u32, ip + IPV6_DESTINATION_AT + 12, destination);
}

/* Writes the stamp and gives the sum of its words. */
INLINE __u64 write_stamp(void *at, const struct shot *s, __u64 now)
{
	__u32 be_flow = swap32((__u32)plan.stream << STAMP_FLOW_BITS | s->flow);
	__u32 be_sequence = swap32(s->sequence);
	__u64 be_time = swap64(now);

	PUT(__u16, at, STAMP_MAGIC);
	PUT(__u32, at + 2, be_flow);
	PUT(__u32, at + 6, be_sequence);
	PUT(__u64, at + 10, be_time);
	return (__u64)STAMP_MAGIC + be_flow + be_sequence + (be_time & 0xffffffff) + (be_time >> 32);
}

/* Writes what follows the Ethernet header. The caller has checked that there is room for it. */
INLINE void write_packet(void *ip, const struct shot *s, __u32 size, __u64 now)
{
	const __u32 ip_bytes = plan.ipv6 ? IPV6_BYTES : IPV4_BYTES;
	const __u32 l4_bytes = plan.tcp ? TCP_BYTES : UDP_BYTES;
	void *l4 = ip + ip_bytes;
	__u32 source = be_address_of(&plan.source, s->tuple);
	__u32 destination = be_address_of(&plan.destination, s->tuple);
	__u16 source_port = be_port_of(&plan.source, s->tuple);
	__u16 destination_port = be_port_of(&plan.destination, s->tuple);
	__u32 length = size - ETHERNET_BYTES - ip_bytes;

	/* A SYN that can't carry a stamp carries nothing; what is left of the frame is padding. */
	if (plan.tcp && !plan.stamped && s->tcp_flags == TCP_SYN)
		length = l4_bytes;
	__u16 be_length = swap16(length);
	__u64 sum = plan.l4_sum + be_length + source + destination + source_port + destination_port;

	if (plan.ipv6)
		write_ipv6(ip, source, destination, be_length);
	else
		write_ipv4(ip, source, destination, swap16(length + IPV4_BYTES));
	if (plan.stamped)
		sum += write_stamp(l4 + l4_bytes, s, now);
	if (plan.tcp) {
		__u32 be_sequence = swap32(s->sequence);

		COPY(__u32, l4, plan.l4, TCP_BYTES / 4);
		PUT(__u32, l4 + TCP_SEQUENCE_AT, be_sequence);
		PUT(__u8, l4 + TCP_FLAGS_AT, s->tcp_flags);
		PUT(__u16, l4 + TCP_CHECKSUM_AT, fold(sum + be_sequence + swap16(s->tcp_flags)));
	} else {
		__u16 checksum = fold(sum + be_length);

		PUT(__u16, l4 + UDP_LENGTH_AT, be_length);
		PUT(__u16, l4 + UDP_CHECKSUM_AT, checksum ? checksum : 0xffff);
	}
	PUT(__u16, l4, source_port);
	PUT(__u16, l4 + 2, destination_port);
}

/* Gives the frame its size: the only one, or a random one. */
INLINE __u32 resize(struct xdp_md *ctx)
{
	if (plan.size_count == 1)
		return plan.largest;
	__u32 size = plan.sizes[below(plan.size_count) % SIZES];

	return bpf_xdp_adjust_tail(ctx, (int)size - plan.largest) ? 0 : size;
}

SECTION("xdp")
int pktgen_live(struct xdp_md *ctx)
{
	const __u32 headers = ETHERNET_BYTES + (plan.ipv6 ? IPV6_BYTES : IPV4_BYTES) + (plan.tcp ? TCP_BYTES : UDP_BYTES) +
			      (plan.stamped ? STAMP_BYTES : 0);
	__u64 now = bpf_ktime_get_ns();
	struct shot s;

	if (!due(now) || !choose(&s))
		return XDP_DROP;
	__u32 size = resize(ctx);
	void *frame = (void *)(unsigned long)ctx->data;

	if (!size || frame + headers > (void *)(unsigned long)ctx->data_end)
		return XDP_DROP;
	COPY(__u16, frame, plan.ethernet, ETHERNET_BYTES / 2);
	write_packet(frame + ETHERNET_BYTES, &s, size, now);
	if (!state.sent)
		state.first = now;
	state.last = now;
	state.bytes += size;
	state.sent++;
	return XDP_TX;
}

/* No helper that is called here is reserved for programs under the GPL, so the string makes no statement. */
char license_text[] SECTION("license") = "Sluice";
