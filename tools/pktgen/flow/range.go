package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Range is a set of endpoints: some addresses in a row, each with the same ports in a row. Items
// are numbered from 0; all ports of the first address come first.
type Range struct {
	First     netip.Addr
	Addresses uint32 // at least 1
	FirstPort uint16
	Ports     uint32 // at least 1
}

// Ports of a source that names none.
const (
	firstClientPort = 1024
	lastPort        = 65535
)

// mostAddresses bounds the addresses of a prefix. With all ports, they are about as many flows as
// an item's number can count.
const mostAddresses = 1 << 16

// ParseRange reads ADDRESSES:PORTS. ADDRESSES is one address, FIRST-LAST, or a prefix. Of a prefix
// the network and the broadcast address are left out and at most 65,536 addresses are used. IPv6 is
// in brackets. PORTS is one port or FIRST-LAST.
//
//	198.51.100.10:80   10.0.0.0/16:1024-65535   10.0.0.1-10.0.0.9:5000-5999   [2001:db8::/64]:80
func ParseRange(text string) (Range, error) { return parse(text, "") }

// ParseSource is ParseRange with optional PORTS, by default 1024-65535. Without PORTS, IPv6 needs
// no brackets.
func ParseSource(text string) (Range, error) {
	return parse(text, fmt.Sprintf("%d-%d", firstClientPort, lastPort))
}

func parse(text, defaultPorts string) (r Range, err error) {
	addresses, ports, err := splitPorts(text)
	if ports == "" {
		ports = defaultPorts
	}
	switch {
	case err != nil:
	case ports == "":
		err = errors.New("there is no port: use ADDRESS:PORT, and brackets around IPv6")
	default:
		err = r.parsePorts(ports)
	}
	if err == nil {
		err = r.parseAddresses(addresses)
	}
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return Range{}, fmt.Errorf("%q: %w", text, err)
	}
	return r, nil
}

// splitPorts splits text at the colon before the ports.
func splitPorts(text string) (addresses, ports string, err error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		addresses, rest, ok := strings.Cut(inner, "]")
		if !ok {
			return "", "", errors.New("the bracket isn't closed")
		}
		ports, ok = strings.CutPrefix(rest, ":")
		if rest != "" && (!ok || ports == "") {
			return "", "", errors.New("after the bracket comes :PORT or :FIRST-LAST")
		}
		return addresses, ports, nil
	}
	if strings.Count(text, ":") == 1 {
		addresses, ports, _ = strings.Cut(text, ":")
		if ports == "" {
			return "", "", errors.New("after the colon comes PORT or FIRST-LAST")
		}
		return addresses, ports, nil
	}
	return text, "", nil
}

func (r *Range) parsePorts(text string) error {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from > to {
		return fmt.Errorf("ports %q: use PORT or FIRST-LAST, from 0 to 65535", text)
	}
	r.FirstPort, r.Ports = uint16(from), uint32(to-from)+1
	return nil
}

func (r *Range) parseAddresses(text string) error {
	if strings.Contains(text, "/") {
		return r.parsePrefix(text)
	}
	first, last, isRange := strings.Cut(text, "-")
	var err error
	if r.First, err = parseAddress(first); err != nil {
		return err
	}
	r.Addresses = 1
	if !isRange {
		return nil
	}
	to, err := parseAddress(last)
	if err != nil {
		return err
	}
	if to.BitLen() != r.First.BitLen() || to.Less(r.First) {
		return fmt.Errorf("%s doesn't follow %s", to, r.First)
	}
	if !withLow(r.First, low(to)).IsValid() || withLow(r.First, low(to)) != to || low(to)-low(r.First) == math.MaxUint32 {
		return fmt.Errorf("from %s to %s are more than 2^32-1 addresses, or they differ in more than the last 32 bits", r.First, to)
	}
	r.Addresses = low(to) - low(r.First) + 1
	return nil
}

func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q isn't an IP address", text)
	}
	return a.Unmap(), nil
}

func (r *Range) parsePrefix(text string) error {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("%q isn't a prefix such as 10.0.0.0/16", text)
	}
	prefix = prefix.Masked()
	hostBits := prefix.Addr().BitLen() - prefix.Bits()
	first, count := prefix.Addr(), uint64(1)<<min(hostBits, 33)
	if hostBits > 1 {
		first = first.Next()
		count -= 2 // IPv6 has no broadcast address; its last address is left out, too
	}
	r.First, r.Addresses = first, uint32(min(count, mostAddresses))
	return nil
}

// Check returns what is wrong with a range that was not parsed.
func (r Range) Check() error {
	switch {
	case !r.First.IsValid():
		return errors.New("there is no first address")
	case r.Addresses == 0 || r.Ports == 0:
		return errors.New("it has no addresses or no ports")
	case uint32(r.FirstPort)+r.Ports > lastPort+1:
		return fmt.Errorf("%d ports from %d on go beyond %d", r.Ports, r.FirstPort, lastPort)
	case uint64(low(r.First))+uint64(r.Addresses) > 1<<32:
		return fmt.Errorf("%d addresses from %s on differ in more than the last 32 bits", r.Addresses, r.First)
	case uint64(r.Addresses)*uint64(r.Ports) > math.MaxUint32:
		return fmt.Errorf("%d addresses with %d ports each are more than 2^32-1 endpoints: give fewer of either", r.Addresses, r.Ports)
	}
	return nil
}

// Size returns the number of items.
func (r Range) Size() uint32 { return r.Addresses * r.Ports }

// At returns item i, modulo the number of items.
func (r Range) At(i uint32) netip.AddrPort {
	address := withLow(r.First, low(r.First)+i/r.Ports%r.Addresses)
	return netip.AddrPortFrom(address, r.FirstPort+uint16(i%r.Ports))
}

// Is6 reports whether the addresses are IPv6.
func (r Range) Is6() bool { return r.First.Is6() }

// String returns what ParseRange reads.
func (r Range) String() string {
	addresses := r.First.String()
	if r.Addresses > 1 {
		addresses += "-" + withLow(r.First, low(r.First)+r.Addresses-1).String()
	}
	if r.Is6() {
		addresses = "[" + addresses + "]"
	}
	ports := strconv.Itoa(int(r.FirstPort))
	if r.Ports > 1 {
		ports += "-" + strconv.Itoa(int(uint32(r.FirstPort)+r.Ports-1))
	}
	return addresses + ":" + ports
}

// low returns the last 32 bits of an address.
func low(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// withLow returns an address with its last 32 bits replaced.
func withLow(a netip.Addr, low uint32) netip.Addr {
	b := a.As16()
	binary.BigEndian.PutUint32(b[12:], low)
	other := netip.AddrFrom16(b)
	if a.Is4() {
		return other.Unmap()
	}
	return other
}
