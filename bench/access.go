package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"sluice/pipeline"
	"sluice/pipeline/access"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// listed is the number of prefixes of the lists that are measured.
const listed = 100_000

// lists is how the rows with random clients differ.
type lists int

const (
	unlisted lists = iota
	allowed        // by a list
	denied
)

// randomPrefixes returns prefixes as in lists of addresses to block: of 12 to 32 bits, or of 32 to
// 64 over IPv6.
func randomPrefixes(family, n int) []access.Rule {
	r := rand.New(rand.NewPCG(5, 6))
	rules := make([]access.Rule, n)
	for i := range rules {
		b := [16]byte{0x20, 1}
		binary.BigEndian.PutUint64(b[2:], r.Uint64())
		a, bits := netip.AddrFrom16(b), 32+r.IntN(33)
		if family == 4 {
			a, bits = netip.AddrFrom4([4]byte(b[2:])), 12+r.IntN(21)
		}
		prefix, _ := a.Prefix(bits)
		rules[i] = access.Rule{Prefix: prefix, Deny: r.IntN(2) == 0}
	}
	return rules
}

// spread gives flows random client addresses, and the lab's service a list that decides about them
// as the row says.
func (l *lab) spread(how lists) {
	t := access.New(randomPrefixes(l.family, listed), false)
	l.random = true
	var clients []uint32
	for n := uint32(0); len(clients) < 1<<20; n++ {
		l.put(0, n, packet.SYN)
		f := &l.batch.Frames[0]
		var m packet.Meta
		if packet.Parse(f.Mem, f.Start, f.End, &m) == counter.None && t.Denies(m.Src) == (how == denied) {
			clients = append(clients, n)
		}
	}
	l.clients = clients
	if how != unlisted {
		l.tables.Services[1].Lists.All = t
		l.rebuild()
	}
}

// randomAddress writes the random client address of a flow into the frame, and the IPv4 header
// checksum.
func (l *lab) randomAddress(f []byte, flowNumber uint32) {
	if len(l.clients) > 0 {
		flowNumber = l.clients[int(flowNumber)%len(l.clients)]
	}
	h := (uint64(flowNumber) + 1) * 0x9e3779b97f4a7c15
	h = (h ^ h>>31) * 0xbf58476d1ce4e5b9
	binary.BigEndian.PutUint16(f[l.l4():], uint16(1024+h%flowsPerAddress))
	if l.family == 6 {
		binary.BigEndian.PutUint64(f[packet.EthernetLen+8+2:], h)
		return
	}
	client := 11<<24 + uint32(h>>32)%(90<<24) // no loopback, and not the backends
	d := packet.Diff32(binary.BigEndian.Uint32(l.frame[packet.EthernetLen+12:]), client)
	binary.BigEndian.PutUint32(f[packet.EthernetLen+12:], client)
	sum := f[packet.EthernetLen+10:]
	binary.BigEndian.PutUint16(sum, d.Update(binary.BigEndian.Uint16(sum)))
}

// openingRandom is opening for random clients.
func openingRandom(r *result, mode service.Mode, how lists, rounds, batch int) error {
	l, err := newLab(r.Family, mode, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	l.spread(how)
	return l.churns(r, rounds, packet.SYN)
}

// refusing measures packets that would open connections of clients that a list denies.
func refusing(r *result, mode service.Mode, rounds, packets, batch int) error {
	l, err := newLab(r.Family, mode, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	l.spread(denied)
	return l.flood(r, rounds, packets, func(f *pipeline.Frame) bool { return f.Reason == counter.AccessDenied })
}
