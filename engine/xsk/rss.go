package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/pipeline/flow"
)

// ErrNoRSS is in the chain of RSS's error when the interface works but its driver does not report
// the hash that chooses queues, or uses a hash that cannot be computed here. It is not a fault.
var ErrNoRSS = errors.New("hash of the NIC is unknown")

// Layout of struct ethtool_rxfh and struct ethtool_rxnfc, and numbers in them
// (include/uapi/linux/ethtool.h).
const (
	rxfhIndirSize = 8
	rxfhKeySize   = 12
	rxfhHash      = 16 // one bit for each function
	rxfhTransform = 17 // how input is transformed before hashing; reserved and 0 before Linux 6.8
	rxfhBytes     = 24 // then the table, 4 bytes per entry, and the key

	rxnfcFlow  = 4
	rxnfcData  = 8
	rxnfcBytes = 192

	hashToeplitz = 1 << 0

	flowTCP4, flowUDP4, flowTCP6, flowUDP6 = 1, 2, 5, 6

	fourTuple = 1<<4 | 1<<5 | 1<<6 | 1<<7 // addresses and ports of both sides: RXH_IP_*, RXH_L4_B_*
)

// Limits for what a driver may report, far above real ones.
const (
	maxIndirection = 1 << 16
	maxKey         = 1 << 10
)

// RSS returns the hash by which the interface chooses the queue of a received packet (ethtool -x,
// ethtool -n IF rx-flow-hash tcp4). The interface is in the calling thread's network namespace. The
// error is ErrNoRSS if the driver does not report it (veth, bonds and other devices without
// hardware) or the hash is not Toeplitz.
func RSS(ifname string) (*flow.RSS, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hash of %s: socket: %w", ifname, err)
	}
	defer unix.Close(fd)
	r, err := readRSS(func(request []byte) error { return ethtoolIoctl(fd, ifname, request) })
	if err != nil {
		return nil, fmt.Errorf("hash of %s: %w", ifname, err)
	}
	return r, nil
}

// readRSS reads the hash by ioctl, which replaces the request by the driver's answer.
func readRSS(ioctl func(request []byte) error) (*flow.RSS, error) {
	sizes := rxfhRequest(0, 0)
	if err := ioctl(sizes); err != nil {
		return nil, unknown(err)
	}
	table := binary.NativeEndian.Uint32(sizes[rxfhIndirSize:])
	key := binary.NativeEndian.Uint32(sizes[rxfhKeySize:])
	if table == 0 || key == 0 || table > maxIndirection || key > maxKey {
		return nil, fmt.Errorf("%w: the table has %d entries and the key %d bytes", ErrNoRSS, table, key)
	}
	whole := rxfhRequest(table, key)
	if err := ioctl(whole); err != nil {
		return nil, unknown(err)
	}
	r, err := parseRXFH(whole, int(table), int(key))
	if err != nil {
		return nil, err
	}
	// Without an answer the usual default holds: ports are hashed for TCP and not for UDP.
	r.TCP4, r.TCP6 = hashesPorts(ioctl, flowTCP4, true), hashesPorts(ioctl, flowTCP6, true)
	r.UDP4, r.UDP6 = hashesPorts(ioctl, flowUDP4, false), hashesPorts(ioctl, flowUDP6, false)
	return r, nil
}

// rxfhRequest returns the request for a table and key of these sizes, or for the sizes if they are
// 0.
func rxfhRequest(table, key uint32) []byte {
	b := make([]byte, rxfhBytes+4*table+key)
	binary.NativeEndian.PutUint32(b, unix.ETHTOOL_GRSSH)
	binary.NativeEndian.PutUint32(b[rxfhIndirSize:], table)
	binary.NativeEndian.PutUint32(b[rxfhKeySize:], key)
	return b
}

// parseRXFH decodes the answer to a request for a table and key of these sizes.
func parseRXFH(b []byte, table, key int) (*flow.RSS, error) {
	if hash := b[rxfhHash]; hash != hashToeplitz {
		return nil, fmt.Errorf("%w: hash function %#x is not Toeplitz; set it with `ethtool -X IF hfunc toeplitz`", ErrNoRSS, hash)
	}
	if transform := b[rxfhTransform]; transform != 0 {
		return nil, fmt.Errorf("%w: the hash is symmetric (transformation %#x); turn that off with `ethtool -X IF xfrm none`", ErrNoRSS, transform)
	}
	r := &flow.RSS{Queues: make([]uint16, table), Key: append([]byte(nil), b[rxfhBytes+4*table:][:key]...)}
	for i := range r.Queues {
		queue := binary.NativeEndian.Uint32(b[rxfhBytes+4*i:])
		if queue > 1<<16-1 {
			return nil, fmt.Errorf("%w: table entry %d is queue %d", ErrNoRSS, i, queue)
		}
		r.Queues[i] = uint16(queue)
	}
	return r, nil
}

// hashesPorts reports whether exactly addresses and ports are hashed for a kind of packet. It
// returns otherwise if the driver does not answer.
func hashesPorts(ioctl func([]byte) error, kind uint32, otherwise bool) bool {
	b := make([]byte, rxnfcBytes)
	binary.NativeEndian.PutUint32(b, unix.ETHTOOL_GRXFH)
	binary.NativeEndian.PutUint32(b[rxnfcFlow:], kind)
	if ioctl(b) != nil {
		return otherwise
	}
	return binary.NativeEndian.Uint64(b[rxnfcData:]) == fourTuple
}

// unknown wraps err in ErrNoRSS if it means that the driver does not support the request.
func unknown(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: the driver does not report it (%w)", ErrNoRSS, err)
	}
	return err
}
