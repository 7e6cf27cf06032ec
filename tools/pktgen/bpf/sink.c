//go:build ignore

/*
 * The receiver in the kernel. It takes every TCP and UDP frame of an interface, counts it, and drops it or hands it
 * to the AF_XDP socket of its queue; everything else (ARP, ND, ICMP) goes to the kernel.
 *
 * Frames with a stamp are told by flow: which sequence numbers came, how often, in which order, and how long they
 * took. Packets that a tunnel has wrapped once are looked into.
 *
 * Counters are one per CPU and written by that CPU only; user space adds them up. A flow's state is written by
 * the CPU that receives the flow, which is one at a time.
 */
#include "wire.h"

/* What is expected; constant while the program is loaded. */
struct want {
	__u32 flows; /* in each stream; 0: don't follow flows */
	__u8 latency; /* measure it */
	__u8 sockets; /* hand frames to sockets instead of dropping them, and let their owner follow flows */
};

const volatile struct want want SECTION(".rodata");

/* The stream that is received; frames of other streams are late or of another sender. Written by user space. */
__u32 stream;

/* Of one CPU, on cache lines of its own. */
struct counters {
	__u64 frames; /* with a stamp of the stream */
	__u64 bytes;
	__u64 plain_frames; /* TCP and UDP without a stamp */
	__u64 plain_bytes;
	__u64 foreign; /* with a stamp of another stream, or of a flow that isn't expected */
	__u64 other; /* neither TCP nor UDP: passed to the kernel */
	__u64 duplicates; /* came before, as far back as we know */
	__u64 reordered; /* came after a later one of its flow */
	__u64 ancient; /* too far behind to know whether it came before; counted as reordered, too */
	__u64 unused[7];
};

struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, 1);
	MAP_TYPES(__u32, struct counters);
	MAP_FLAGS(BPF_F_MMAPABLE);
} counts SECTION(".maps");

/* Of one flow; zero when it hasn't been seen. Package rx has the same in Go. */
struct follow {
	__u64 seen; /* bit i: sequence number top - i came */
	__u32 top; /* highest sequence number that came */
	__u32 distinct; /* how many sequence numbers came */
	__u32 stream; /* 1 + the stream that this is about */
	__u32 late; /* how many came after a later one */
};

struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, 1);
	MAP_TYPES(__u32, struct follow);
	MAP_FLAGS(BPF_F_MMAPABLE);
} flows SECTION(".maps");

/*
 * Latencies, in buckets with a width of at most 1/64 of the value: BUCKETS for each CPU. Values below 64 ns have a
 * bucket each; above, each power of two has 64 of them.
 */
#define SUB_BITS 6
#define SUB (1 << SUB_BITS)
#define LONGEST_BITS 36 /* about 69 s; anything longer is counted there */
#define BUCKETS ((LONGEST_BITS - SUB_BITS + 1) * SUB)

/* The loader multiplies the number of entries by that of the CPUs. */
struct {
	MAP_IS(BPF_MAP_TYPE_ARRAY, BUCKETS);
	MAP_TYPES(__u32, __u64);
	MAP_FLAGS(BPF_F_MMAPABLE);
} latencies SECTION(".maps");

/* AF_XDP sockets by queue. */
struct {
	MAP_IS(BPF_MAP_TYPE_XSKMAP, 256);
	MAP_BYTES(4, 4);
} sockets SECTION(".maps");

/* Position of the highest set bit of a number that isn't 0. */
INLINE __u32 highest_bit(__u64 v)
{
	__u32 n = 0;

	if (v >> 32) { n += 32; v >>= 32; }
	if (v >> 16) { n += 16; v >>= 16; }
	if (v >> 8) { n += 8; v >>= 8; }
	if (v >> 4) { n += 4; v >>= 4; }
	if (v >> 2) { n += 2; v >>= 2; }
	return n + (v >> 1);
}

INLINE void record_latency(__u32 cpu, __u64 be_time)
{
	__u64 sent = swap64(be_time);
	__u64 now = bpf_ktime_get_ns();
	__u64 ns = now > sent ? now - sent : 0; /* clocks of two CPUs may differ by a little */

	if (ns >> LONGEST_BITS)
		ns = (1ULL << LONGEST_BITS) - 1;
	__u32 bucket = ns;

	if (ns >= SUB) {
		__u32 shift = highest_bit(ns) - SUB_BITS;

		bucket = (shift << SUB_BITS) + (ns >> shift);
	}
	bucket += cpu * BUCKETS;
	__u64 *count = bpf_map_lookup_elem(&latencies, &bucket);

	if (count)
		++*count;
}

/* Counts a frame with a sequence number that is not above the highest one. */
INLINE void follow_late(struct follow *f, struct counters *c, __u32 behind)
{
	if (behind >= 64) {
		c->ancient++;
	} else {
		if (f->seen & 1ULL << behind) {
			c->duplicates++;
			return;
		}
		f->seen |= 1ULL << behind;
	}
	c->reordered++;
	f->late++;
	f->distinct++;
}

INLINE void follow_flow(struct counters *c, __u32 flow, __u32 sequence)
{
	struct follow *f = bpf_map_lookup_elem(&flows, &flow);

	if (!f)
		return;
	if (f->stream != stream + 1) {
		f->stream = stream + 1;
		f->seen = 1;
		f->top = sequence;
		f->distinct = 1;
		f->late = 0;
		return;
	}
	__u32 ahead = sequence - f->top; /* sequence numbers wrap */

	if (ahead == 0 || ahead >> 31) {
		follow_late(f, c, -ahead);
		return;
	}
	f->seen = ahead >= 64 ? 1 : f->seen << ahead | 1;
	f->top = sequence;
	f->distinct++;
}

/* Where a reader stands in a frame. */
struct reader {
	const void *at;
	const void *end;
};

/* Steps over the IP header of a packet and gives the protocol that follows; 0: unknown. */
INLINE __u32 skip_ip(struct reader *r)
{
	const __u8 *ip = r->at;

	if ((void *)(ip + IPV4_BYTES) > r->end)
		return 0;
	if (*ip >> 4 == 4) {
		__u32 bytes = (*ip & 15) * 4;

		r->at += bytes < IPV4_BYTES ? IPV4_BYTES : bytes;
		return ip[IPV4_PROTOCOL_AT];
	}
	if (*ip >> 4 != 6)
		return 0;
	r->at += IPV6_BYTES;
	return ip[IPV6_NEXT_AT];
}

/* Gives the protocol of a frame's innermost packet and leaves the reader at its header. */
INLINE __u32 skip_to_l4(struct reader *r)
{
	const void *frame = r->at;

	if (frame + ETHERNET_BYTES + VLAN_BYTES > r->end)
		return 0;
	__u16 type = *(__u16 *)(frame + ETHERTYPE_AT);

	r->at += ETHERNET_BYTES;
	if (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) {
		type = *(__u16 *)(frame + ETHERTYPE_AT + VLAN_BYTES);
		r->at += VLAN_BYTES;
	}
	if (type != ETHERTYPE_IPV4 && type != ETHERTYPE_IPV6)
		return 0;
	__u32 protocol = skip_ip(r);

	if (protocol == PROTOCOL_IPIP || protocol == PROTOCOL_IPV6)
		protocol = skip_ip(r);
	return protocol;
}

/* The stamp, or null. */
INLINE const struct stamp *find_stamp(struct reader *r, __u32 protocol)
{
	if (protocol == PROTOCOL_TCP) {
		const __u8 *tcp = r->at;

		if ((void *)(tcp + TCP_BYTES) > r->end)
			return 0;
		r->at += (tcp[TCP_WORDS_AT] >> 4) * 4;
	} else {
		r->at += UDP_BYTES;
	}
	const struct stamp *s = r->at;

	if ((void *)(s + 1) > r->end || s->be_magic != STAMP_MAGIC)
		return 0;
	return s;
}

INLINE void count_stamp(struct counters *c, const struct stamp *s, __u32 cpu, __u64 bytes)
{
	__u32 id = swap32(s->be_flow);
	__u32 flow = id & ((1 << STAMP_FLOW_BITS) - 1);

	if (id >> STAMP_FLOW_BITS != stream || (want.flows && flow >= want.flows)) {
		c->foreign++;
		return;
	}
	c->frames++;
	c->bytes += bytes;
	if (want.sockets)
		return;
	if (want.flows)
		follow_flow(c, flow, swap32(s->be_sequence));
	if (want.latency)
		record_latency(cpu, s->be_time);
}

SECTION("xdp")
int pktgen_sink(struct xdp_md *ctx)
{
	struct reader r = { (void *)(unsigned long)ctx->data, (void *)(unsigned long)ctx->data_end };
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *c = bpf_map_lookup_elem(&counts, &cpu);

	if (!c)
		return XDP_PASS;
	__u64 bytes = r.end - r.at;
	__u32 protocol = skip_to_l4(&r);

	if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) {
		c->other++;
		return XDP_PASS;
	}
	const struct stamp *s = find_stamp(&r, protocol);

	if (s) {
		count_stamp(c, s, cpu, bytes);
	} else {
		c->plain_frames++;
		c->plain_bytes += bytes;
	}
	if (want.sockets)
		return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
	return XDP_DROP;
}

char license_text[] SECTION("license") = "Sluice";
