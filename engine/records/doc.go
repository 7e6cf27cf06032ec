// Package records writes connections and persistence templates in a form that another process, or
// another box, can read: one with other numbers of services and backends, other workers, other
// layouts of its tables, or another version of Sluice.
//
// # Format
//
// All numbers are little-endian. A stream is a head, a dictionary, blocks and an end.
//
//	head, 32 bytes
//	 0  8  "SLUICERC"
//	 8  2  version
//	10  2  the oldest version with readers that understand this stream
//	12  4  0
//	16  4  number of services
//	20  4  number of backends
//	24  4  number of sources
//	28  4  CRC-32C of the 28 bytes before
//
// The dictionary lists services, then backends, then sources. Each is numbered from 1 on. After it
// stands its CRC-32C, 4 bytes.
//
//	service: 1 family (4 or 6), 1 protocol (6 or 17), 2 first port, 2 last port, 4 or 16 address
//	backend: 4 service, 1 mode (1 nat, 2 fullnat, 3 dr, 4 tun), 1 family, 2 port, 4 or 16 address
//	source:  1 family, 1 zero, 4 or 16 address
//
// A block has records of one family of clients, at most 4,096:
//
//	0  1  kind: 4 or 6, the family; 1: the end, with one record of 8 bytes, the number of all
//	1  1  0
//	2  2  number of records
//	4  4  CRC-32C of the records
//	8     the records
//
// A record has 28 bytes for IPv4, and 40 for IPv6:
//
//	 0  4  number of the service; bit 31: a persistence template
//	 4  4  number of the backend
//	 8  4  milliseconds until it expires: 1 to 2^31-1
//	12  1  state: that of IPVS, 0 to 10; 11 and 12: SYN_RECV, after the backend has answered the
//	       SYN by an ACK, and after the client has repeated the SYN; 13: UDP
//	13  1  flags: 1 UDP, 2 replies bypass the balancer, 4 counted in a template, 8 the backend has
//	       answered, 16 fullnat, 32 proven, 64 the client has sent FIN, 128 a RST is in doubt
//	14  1  fullnat: number of the source; else 0
//	15  1  0
//	16  2  port of the client; template: 0
//	18  2  port of the service
//	20  2  port of the backend; template: 0
//	22  2  fullnat: port of the source; else 0
//	24     address of the client, 4 or 16 bytes
//
// The address of the service, and that of the backend, are in the dictionary.
//
// # Versions
//
// A reader of version N reads streams of version N and N-1. A writer writes its own version, and
// names N-1 as the oldest that understands it only if it has put nothing in that is new in N. What
// is 0 here stays 0 until a version gives it a meaning.
//
// # Bounds
//
// A writer examines as many slots of a table in one call as its caller says, so that a worker can
// write its table between two batches. A reader has one block in memory, and a dictionary of at
// most what it has received, whatever the head says. It refuses a stream as soon as one byte is
// impossible, so that nothing that it returns needs to be checked but that service, backend and
// source exist where it is inserted.
package records

import (
	"hash/crc32"
	"net/netip"

	"sluice/pipeline/conn"
	"sluice/pipeline/service"
)

// Version is the version of streams that this package writes.
const Version = 1

const (
	magic    = "SLUICERC"
	headSize = 32
	// blockHead is the size of what stands before the records of a block.
	blockHead   = 8
	maxRecords  = 4096
	kindEnd     = 1
	templateBit = 1 << 31

	recordSize4 = 28
	recordSize6 = 40

	// More of them than any box has.
	maxServices = 1 << 17
	maxBackends = 1 << 20
	maxSources  = 255
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Dictionary is what the numbers in records mean: 1 is the first of each.
type Dictionary struct {
	Services []service.Key
	Backends []Backend
	Sources  []netip.Addr
}

// Backend is a backend of a service in one mode.
type Backend struct {
	ID   service.BackendID
	Mode service.Mode
}

// modes are the numbers of modes in streams.
var modes = [...]service.Mode{1: service.NAT, 2: service.FullNAT, 3: service.DR, 4: service.TUN}

// States and flags have the numbers in streams that they have in tables. If one of these lines does
// not compile, the number in tables has changed, and must be translated.
const (
	_ = uint8(conn.Established-1) + uint8(1-conn.Established)
	_ = uint8(conn.SynAck-10) + uint8(10-conn.SynAck)
	_ = uint8(conn.SynChallenged-11) + uint8(11-conn.SynChallenged)
	_ = uint8(conn.SynRepeated-12) + uint8(12-conn.SynRepeated)
	_ = uint8(conn.UDP-13) + uint8(13-conn.UDP)

	_ = uint8(conn.IsUDP-1) + uint8(1-conn.IsUDP)
	_ = uint8(conn.NoOutput-2) + uint8(2-conn.NoOutput)
	_ = uint8(conn.HasTemplate-4) + uint8(4-conn.HasTemplate)
	_ = uint8(conn.SeenReply-8) + uint8(8-conn.SeenReply)
	_ = uint8(conn.Translated-16) + uint8(16-conn.Translated)
	_ = uint8(conn.Proven-32) + uint8(32-conn.Proven)
	_ = uint8(conn.ClientFIN-64) + uint8(64-conn.ClientFIN)
	_ = uint8(conn.Doubted-128) + uint8(128-conn.Doubted)
)

// flagsOf returns the flags that every connection to a backend in this mode has.
func flagsOf(m service.Mode) conn.Flags {
	switch m {
	case service.NAT:
		return 0
	case service.FullNAT:
		return conn.Translated
	}
	return conn.NoOutput
}

// recordSize returns the size of a record of a family.
func recordSize(family uint8) int {
	if family == 4 {
		return recordSize4
	}
	return recordSize6
}
