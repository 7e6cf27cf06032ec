// Package service has the basic types that all packages use: what a service is, its ports, how its
// packets are forwarded, and which schedulers exist. It is a leaf: it imports nothing of Sluice.
package service

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Protocol is an IP protocol number that Sluice balances.
type Protocol uint8

// The protocols of a service.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Protocols lists the allowed protocol names, for error messages and help.
var Protocols = []string{"tcp", "udp"}

// String returns the name used in the configuration.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return "proto-" + strconv.Itoa(int(p))
}

// ParseProtocol is the inverse of String for the names in Protocols.
func ParseProtocol(s string) (Protocol, error) {
	switch s {
	case "tcp":
		return TCP, nil
	case "udp":
		return UDP, nil
	}
	return 0, fmt.Errorf("protocol %q is not one of %s", s, strings.Join(Protocols, ", "))
}

// Mode is the way a frame reaches its backend.
type Mode uint8

// The forwarding modes. The zero Mode is invalid.
const (
	NAT     Mode = iota + 1 // destination rewritten; replies come back through Sluice
	FullNAT                 // destination and source rewritten; replies come to a local address
	// TUN: the packet is put into an outer IP packet (RFC 2003, RFC 2473, RFC 4213)
	TUN
	DR // only the destination MAC changes
	// EndOfModes is above all modes: the length of arrays by mode.
	EndOfModes
)

// Modes lists the allowed mode names, for error messages and help.
var Modes = []string{"nat", "fullnat", "tun", "dr"}

// String returns the name used in the configuration.
func (m Mode) String() string {
	if m >= NAT && m < EndOfModes {
		return Modes[m-NAT]
	}
	return "mode-" + strconv.Itoa(int(m))
}

// ParseMode is the inverse of String.
func ParseMode(s string) (Mode, error) {
	for i, name := range Modes {
		if s == name {
			return NAT + Mode(i), nil
		}
	}
	return 0, fmt.Errorf("mode %q is not one of %s", s, strings.Join(Modes, ", "))
}

// RepliesThroughUs reports whether frames from the backend to the client pass through Sluice.
func (m Mode) RepliesThroughUs() bool { return m == NAT || m == FullNAT }

// Ports is a closed interval of port numbers: one port, a range, or all of them.
type Ports struct{ First, Last uint16 }

// AnyPort is what `port = "any"` means.
var AnyPort = Ports{0, 65535}

// Single reports whether the interval is one port.
func (p Ports) Single() bool { return p.First == p.Last }

// Contains reports whether port lies in the interval.
func (p Ports) Contains(port uint16) bool { return port >= p.First && port <= p.Last }

// Overlaps reports whether the two intervals have a port in common.
func (p Ports) Overlaps(q Ports) bool { return p.First <= q.Last && q.First <= p.Last }

// String returns the form used in the configuration: "80", "8000-8099" or "any".
func (p Ports) String() string {
	switch {
	case p == AnyPort:
		return "any"
	case p.Single():
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// ParsePorts is the inverse of String.
func ParsePorts(s string) (Ports, error) {
	if s == "any" {
		return AnyPort, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := a, error(nil)
	if isRange {
		b, errB = strconv.ParseUint(last, 10, 16)
	}
	if errA != nil || errB != nil || a == 0 || b < a {
		return Ports{}, fmt.Errorf(`port %q is not a port 1-65535, a range like "8000-8099", or "any"`, s)
	}
	return Ports{uint16(a), uint16(b)}, nil
}

// Schedulers lists the allowed scheduler names, for error messages and help.
var Schedulers = []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "mh", "random", "p2c"}

// Key identifies a configured service: two services never have equal keys.
type Key struct {
	Address  netip.Addr
	Ports    Ports
	Protocol Protocol
}

// String returns "tcp 198.51.100.10:80", with IPv6 addresses in brackets.
func (k Key) String() string {
	if k.Address.Is6() {
		return fmt.Sprintf("%s [%s]:%s", k.Protocol, k.Address, k.Ports)
	}
	return fmt.Sprintf("%s %s:%s", k.Protocol, k.Address, k.Ports)
}

// ParseKey is the inverse of the String of each part. Its error names every part that is wrong.
func ParseKey(protocol, address, ports string) (Key, error) {
	p, err1 := ParseProtocol(protocol)
	a, err2 := netip.ParseAddr(address)
	r, err3 := ParsePorts(ports)
	return Key{Address: a, Ports: r, Protocol: p}, errors.Join(err1, err2, err3)
}

// BackendKey identifies a backend of a service.
type BackendKey struct {
	Address netip.Addr
	Port    uint16 // 0: the port that the client asked for (services with a range or any port)
}

// String returns "10.0.0.11:8080", with IPv6 addresses in brackets.
func (k BackendKey) String() string { return netip.AddrPortFrom(k.Address, k.Port).String() }

// BackendID names a backend of a service, whatever the mode: the same address and port in two
// services are two backends.
type BackendID struct {
	Service Key
	Backend BackendKey
}

// BackendID returns the name of the service's backend b.
func (k Key) BackendID(b BackendKey) BackendID { return BackendID{Service: k, Backend: b} }
