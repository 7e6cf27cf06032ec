/*
 * Frames as they stand on the wire. Names that begin with be_ are in network byte order. The Go side of the
 * stamp is package sluice/tools/pktgen/frame.
 */
#ifndef PKTGEN_WIRE_H
#define PKTGEN_WIRE_H

#include "bpf.h"

#define ETHERNET_BYTES 14
#define VLAN_BYTES 4
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define UDP_BYTES 8
#define TCP_BYTES 20
#define STAMP_BYTES 18

#define ETHERTYPE_IPV4 swap16(0x0800)
#define ETHERTYPE_IPV6 swap16(0x86dd)
#define ETHERTYPE_VLAN swap16(0x8100)
#define ETHERTYPE_QINQ swap16(0x88a8)

#define PROTOCOL_IPIP 4 /* RFC 2003, RFC 2473 */
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_IPV6 41 /* RFC 4213, RFC 2473 */

/* Offsets of single fields. */
#define ETHERTYPE_AT 12
#define IPV4_LENGTH_AT 2
#define IPV4_PROTOCOL_AT 9
#define IPV4_CHECKSUM_AT 10
#define IPV4_SOURCE_AT 12
#define IPV4_DESTINATION_AT 16
#define IPV6_LENGTH_AT 4
#define IPV6_NEXT_AT 6
#define IPV6_SOURCE_AT 8
#define IPV6_DESTINATION_AT 24
#define UDP_LENGTH_AT 4
#define UDP_CHECKSUM_AT 6
#define TCP_SEQUENCE_AT 4
#define TCP_WORDS_AT 12
#define TCP_FLAGS_AT 13
#define TCP_CHECKSUM_AT 16

/* Flags of a TCP header. */
#define TCP_SYN 0x02
#define TCP_ACK 0x10
#define TCP_PSH_ACK 0x18
#define TCP_FIN_ACK 0x11

/* The first bytes of the payload of a frame that the receiver is to recognise. */
#define STAMP_MAGIC swap16(0x5167)
#define STAMP_FLOW_BITS 24

struct stamp {
	__u16 be_magic;
	__u32 be_flow; /* stream in the upper 8 bits, flow in the lower 24 */
	__u32 be_sequence; /* within the flow, from 0 */
	__u64 be_time; /* when it was sent, ns of CLOCK_MONOTONIC */
} __attribute__((packed));

_Static_assert(sizeof(struct stamp) == STAMP_BYTES, "the stamp has no padding");

#endif
