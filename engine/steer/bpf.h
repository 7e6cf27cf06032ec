/*
 * The kernel's declarations that steer.c needs, so that the object depends only on this folder and
 * the compiler. The numbers are the kernel's ABI: include/uapi/linux/bpf.h.
 */
#ifndef SLUICE_BPF_H
#define SLUICE_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef long long __s64;

/* Integers in network byte order, as in a frame. */
typedef __u16 __be16;
typedef __u32 __be32;

/* The object is built for little-endian machines only (-target bpfel). */
#define swap16(x) ((__u16)__builtin_bswap16(x))
#define swap32(x) ((__u32)__builtin_bswap32(x))

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define SUBPROGRAM static __attribute__((noinline))

enum xdp_action {
	XDP_DROP = 1,
	XDP_PASS = 2,
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

/*
 * Declaration of a map for loaders that read BTF: numbers are encoded as array lengths, types as
 * pointers. MAP_BYTES is for the map types that take no BTF types.
 */
#define MAP_IS(map_type, entries) int (*type)[map_type]; int (*max_entries)[entries]
#define MAP_TYPES(key_type, value_type) typeof(key_type) *key; typeof(value_type) *value
#define MAP_BYTES(key_bytes, value_bytes) int (*key_size)[key_bytes]; int (*value_size)[value_bytes]
#define MAP_FLAGS(flags) int (*map_flags)[flags]

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_LPM_TRIE 11
#define BPF_MAP_TYPE_DEVMAP 14
#define BPF_MAP_TYPE_XSKMAP 17

#define BPF_F_NO_PREALLOC 1 /* required for an LPM trie */
#define BPF_F_MMAPABLE 1024

#define BPF_ANY 0 /* make an entry, or replace it */

static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(const void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(const void *map, const void *key) = (void *)3;
static long (*const bpf_redirect_map)(const void *map, __u64 key, __u64 flags) = (void *)51;
static __u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)160;
static __u64 (*const bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188;
static long (*const bpf_xdp_load_bytes)(struct xdp_md *ctx, __u32 offset, void *to, __u32 bytes) = (void *)189;

#endif
