/* Headers as on the wire. The comment above each names the document that defines it. */
#ifndef SLUICE_WIRE_H
#define SLUICE_WIRE_H

#include "bpf.h"

/* IEEE 802.3 */
struct ethernet {
	__be16 destination[3];
	__be16 source[3];
	__be16 type;
};

#define GROUP swap16(0x0100) /* in the first two bytes of a group address, broadcast included */

/* IEEE 802.1Q: what follows the EtherType of a tag. */
struct tag {
	__be16 control; /* priority, drop eligibility, VLAN identifier */
	__be16 type;
};

#define TAG_VLAN 0x0fff

#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd
#define TYPE_TAG 0x8100 /* 802.1Q */
#define TYPE_SERVICE_TAG 0x88a8 /* 802.1ad */

/* RFC 791 */
struct ipv4 {
	__u8 version_words; /* version, header length in 4-byte words */
	__u8 service;
	__be16 length; /* in bytes, this header included */
	__be16 id;
	__be16 fragment; /* flags, offset in 8-byte units */
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__be32 source;
	__be32 destination;
};

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* An IPv6 address; outside of headers also an IPv4 address, as ::ffff:a.b.c.d. */
struct address {
	__be32 word[4];
};

/* RFC 8200 */
struct ipv6 {
	__be32 version_class_flow;
	__be16 length; /* in bytes, of what follows this header */
	__u8 next;
	__u8 hop_limit;
	struct address source;
	struct address destination;
};

/* The first 8 bytes of an extension header (RFC 8200, 4.2 to 4.6). */
struct extension {
	__u8 next;
	__u8 length; /* in 8-byte units, the first not counted; a fragment header has none */
	union {
		__be16 fragment; /* offset in 8-byte units << 3, more fragments */
		struct {
			__u8 routing_type;
			__u8 segments_left;
		};
	};
	__be32 rest;
};

#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

/* The first bytes of TCP and of UDP. */
struct ports {
	__be16 source;
	__be16 destination;
};

/* RFC 9293: the flags are a byte of their own. */
#define TCP_FLAGS_AT 13

enum {
	FIN = 1,
	SYN = 2,
	RST = 4,
	ACK = 16,
};

/* RFC 792, RFC 4443: the header of an error; the quoted packet follows. */
struct icmp {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 rest;
};

/* Protocol numbers and next headers (IANA). */
enum {
	HOP_BY_HOP = 0,
	ICMP = 1,
	TCP = 6,
	UDP = 17,
	ROUTING = 43,
	FRAGMENT = 44,
	ICMPV6 = 58,
	DESTINATION_OPTIONS = 60,
};

#endif
