//go:build ignore

/*
 * The receiving end of IP-in-IP tunnels, for backends on a kernel without tunnel devices. If the outer
 * header of a frame is addressed to one of our addresses and directly followed by an IP packet, the program
 * removes the outer header, puts the Ethernet header before the inner one, and passes it to the kernel.
 * All other frames pass as they are: fragments and outer IPv6 extension headers are not followed.
 */
#include "decap.h"

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d. */
struct address {
	__u32 word[4];
};

/* Our addresses, with the number of packets unwrapped for each. Written by the loader, counted here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct address);
	__type(value, __u64);
} unwrapped SEC(".maps");

/* What there is to remove. */
struct outer {
	struct address destination;
	__u32 bytes; /* length of the header; 0: not a tunnel packet */
	__u8 protocol; /* of what follows it */
};

INLINE void read_ipv4(struct outer *o, const struct ipv4 *ip, const void *end)
{
	if ((const void *)(ip + 1) > end)
		return;
	__u32 bytes = (ip->version_and_words & 15) * 4;

	if (ip->version_and_words >> 4 != 4 || bytes < sizeof(*ip) || ip->fragment & IPV4_FRAGMENT)
		return;
	o->destination.word[2] = 0xffff0000; /* 00 00 ff ff in memory */
	o->destination.word[3] = ip->destination;
	o->protocol = ip->protocol;
	o->bytes = bytes;
}

INLINE void read_ipv6(struct outer *o, const struct ipv6 *ip, const void *end)
{
	if ((const void *)(ip + 1) > end)
		return;
	for (int i = 0; i < 4; i++)
		o->destination.word[i] = ip->destination[i];
	o->protocol = ip->next_header;
	o->bytes = sizeof(*ip);
}

/* Removes the bytes between the Ethernet header and the inner packet. */
INLINE void strip(struct xdp_md *ctx, __u32 bytes, __u16 inner_type)
{
	struct ethernet *eth = (void *)(unsigned long)ctx->data;

	if ((void *)(eth + 1) > (void *)(unsigned long)ctx->data_end)
		return;
	struct ethernet saved = *eth;
	saved.type = inner_type;
	if (bpf_xdp_adjust_head(ctx, bytes))
		return;
	eth = (void *)(unsigned long)ctx->data;
	if ((void *)(eth + 1) <= (void *)(unsigned long)ctx->data_end)
		*eth = saved;
}

SEC("xdp")
int netlab_decap(struct xdp_md *ctx)
{
	const void *end = (void *)(unsigned long)ctx->data_end;
	const struct ethernet *eth = (void *)(unsigned long)ctx->data;
	struct outer o = {};

	if ((const void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->type == ETHERTYPE_IPV4)
		read_ipv4(&o, (const void *)(eth + 1), end);
	else if (eth->type == ETHERTYPE_IPV6)
		read_ipv6(&o, (const void *)(eth + 1), end);
	if (!o.bytes || (o.protocol != IPPROTO_IPIP && o.protocol != IPPROTO_IPV6))
		return XDP_PASS;

	/* The inner packet must have the IP version that the outer header announces. */
	const __u8 *inner = (const __u8 *)(eth + 1) + o.bytes;
	if ((const void *)(inner + 1) > end || *inner >> 4 != (o.protocol == IPPROTO_IPIP ? 4 : 6))
		return XDP_PASS;

	__u64 *count = bpf_map_lookup_elem(&unwrapped, &o.destination);
	if (!count)
		return XDP_PASS;
	__sync_fetch_and_add(count, 1);
	strip(ctx, o.bytes, o.protocol == IPPROTO_IPIP ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
	return XDP_PASS;
}

/* No helper that is called here is reserved for programs under the GPL, so the string makes no statement. */
char license_text[] SEC("license") = "Sluice";
