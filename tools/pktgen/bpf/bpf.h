/*
 * The kernel's declarations that the programs need, so that the objects depend only on this directory
 * and the compiler. The numbers are the kernel's ABI: include/uapi/linux/bpf.h.
 */
#ifndef PKTGEN_BPF_H
#define PKTGEN_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

/* The objects are built for little-endian machines only (-target bpfel). */
#define swap16(x) ((__u16)__builtin_bswap16(x))
#define swap32(x) ((__u32)__builtin_bswap32(x))
#define swap64(x) ((__u64)__builtin_bswap64(x))

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

enum xdp_action {
	XDP_DROP = 1,
	XDP_PASS = 2,
	XDP_TX = 3,
};

/* The program's argument; the kernel translates each access. */
struct xdp_md {
	__u32 data; /* address of the frame's first byte */
	__u32 data_end; /* one past its last */
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

/* Declaration of a map for loaders that read BTF: numbers travel as array lengths, types as pointers. */
#define MAP_IS(map_type, entries) int (*type)[map_type]; int (*max_entries)[entries]
#define MAP_TYPES(key_type, value_type) typeof(key_type) *key; typeof(value_type) *value
#define MAP_BYTES(key_bytes, value_bytes) int (*key_size)[key_bytes]; int (*value_size)[value_bytes]
#define MAP_FLAGS(flags) int (*map_flags)[flags]

#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_XSKMAP 17

#define BPF_F_MMAPABLE (1 << 10) /* user space reads the values in place */

static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)1;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5; /* CLOCK_MONOTONIC */
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_redirect_map)(const void *map, __u64 key, __u64 flags) = (void *)51;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *ctx, int by) = (void *)65;

#endif
