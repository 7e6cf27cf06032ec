/*
 * The declarations of the kernel's ABI (include/uapi/linux/bpf.h) and of frames that decap.c needs, so
 * that the object depends only on this directory and the compiler.
 */
#ifndef NETLAB_DECAP_H
#define NETLAB_DECAP_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* The object is built for little-endian machines only (-target bpfel). */
#define htons(x) ((__u16)__builtin_bswap16(x))

#define XDP_PASS 2

/* The program's argument; the kernel translates each access. */
struct xdp_md {
	__u32 data; /* address of the frame's first byte */
	__u32 data_end; /* one past its last */
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

/* A map is declared by the BTF of a struct: numbers travel as array lengths, types as pointers. */
#define __uint(name, number) int (*name)[number]
#define __type(name, what) typeof(what) *name
#define BPF_MAP_TYPE_HASH 1

static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)1;
static long (*const bpf_xdp_adjust_head)(struct xdp_md *ctx, int by) = (void *)44;

/* Frames. All multi-byte fields are in network byte order. */
#define ETHERTYPE_IPV4 htons(0x0800)
#define ETHERTYPE_IPV6 htons(0x86dd)

struct ethernet {
	__u8 addresses[12]; /* destination, source */
	__u16 type;
} __attribute__((packed));

#define IPPROTO_IPIP 4 /* RFC 2003, RFC 2473 */
#define IPPROTO_IPV6 41 /* RFC 4213, RFC 2473 */

struct ipv4 {
	__u8 version_and_words;
	__u8 tos;
	__u16 total_length;
	__u16 id;
	__u16 fragment; /* flags and offset */
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__u32 source;
	__u32 destination;
};

#define IPV4_FRAGMENT htons(0x3fff) /* more fragments, or an offset */

struct ipv6 {
	__u32 version_class_label;
	__u16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u32 source[4];
	__u32 destination[4];
};

#endif
