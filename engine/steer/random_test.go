package steer_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// The addresses and ports of generated rules and packets: few, so that they meet.
var (
	hosts4 = addrs(client4, router4, web4, any4, vip4, other4, b4, bAny4, bRange4, h4, l4, p4)
	hosts6 = addrs(client6, router6, web6, any6, vip6, b6, bAny6, bRange6, h6, l6, p6)
	odd4   = addrs("224.0.0.251", "255.255.255.255", broadcast4, "127.0.0.1", "0.0.0.0", "0.1.2.3", "239.255.0.1", "240.0.0.1", "223.255.255.255", "169.254.0.1")
	odd6   = addrs("ff02::fb", "fe80::1", "febf::1", "fec0::1", "::1", "::", "::198.51.100.10", "::1:0:0", "ff0e::1", "::ffff:198.51.100.10")

	portNumbers = []uint16{0, 1, 22, 53, 80, 81, 8000, 8050, 8079, 8080, 8099, 8100, 20000, 28672, 30000, 32767, 32768, 65535}
)

func one[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// randomRules gives each host some roles, in any combination.
func randomRules(random *rand.Rand) steer.Rules {
	r := steer.Rules{Stations: stations(loopbackIndex)}
	if random.IntN(4) == 0 { // of another port
		r.Stations[1].Ifindex++
	}
	for _, a := range slices.Concat(hosts4, hosts6) {
		for _, list := range []*[]service.Key{&r.Services, &r.Replies, &r.Replies, &r.Pools, &r.Probed, &r.Probers} {
			for random.IntN(3) == 0 {
				*list = append(*list, service.Key{Address: a, Ports: randomPorts(random), Protocol: one(random, []service.Protocol{service.TCP, service.UDP})})
			}
		}
		switch random.IntN(6) {
		case 0:
			r.Locals = append(r.Locals, a)
		case 1:
			r.VIPs = append(r.VIPs, a)
		}
	}
	for _, a := range []string{broadcast4, "127.0.0.1", "fe80::1", "ff02::fb"} {
		if random.IntN(4) == 0 {
			r.Locals = append(r.Locals, netip.MustParseAddr(a))
		}
	}
	return r
}

func randomPorts(random *rand.Rand) service.Ports {
	switch random.IntN(4) {
	case 0:
		return service.AnyPort
	case 1:
		a, b := one(random, portNumbers), one(random, portNumbers)
		return service.Ports{First: min(a, b), Last: max(a, b, 1)}
	}
	p := max(one(random, portNumbers), 1)
	return service.Ports{First: p, Last: p}
}

// randomFrame makes an Ethernet frame, mostly a right one.
func randomFrame(random *rand.Rand) []byte {
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	switch random.IntN(40) {
	case 0:
		copy(frame, "\xff\xff\xff\xff\xff\xff")
	case 1:
		copy(frame, "\x01\x00\x5e\x00\x00\xfb")
	case 2:
		copy(frame, theirMAC)
	case 3, 4:
		copy(frame, childMAC)
	case 5:
		frame[6] |= 1
	}
	for range [8]int{5: 1, 6: 1, 7: 2}[random.IntN(8)] {
		frame = append(frame, one(random, []string{"\x81\x00\x00\x07", "\x81\x00\xf0\x07", "\x81\x00\x60\x00", "\x81\x00\x00\x08",
			"\x88\xa8\x00\x07", "\x88\xa8\x20\x00", "\x91\x00\x00\x07"})...)
	}
	if random.IntN(50) == 0 {
		frame = append(frame, "\x08\x06"...) // ARP
		return append(frame, make([]byte, 28)...)
	}
	v6 := random.IntN(2) == 0
	if v6 {
		frame = append(frame, 0x86, 0xdd)
	} else {
		frame = append(frame, 0x08, 0x00)
	}
	frame = append(frame, randomPacket(random, v6, netip.Addr{}, 0)...)
	if random.IntN(10) == 0 {
		frame = append(frame, make([]byte, random.IntN(20))...) // padding
	}
	if random.IntN(8) == 0 {
		frame = mutate(random, frame)
	}
	return frame[:min(len(frame), 3000)]
}

// randomAddress returns an address of a family, mostly of a host.
func randomAddress(random *rand.Rand, v6 bool) netip.Addr {
	switch {
	case v6 && random.IntN(6) == 0:
		return one(random, odd6)
	case v6:
		return one(random, hosts6)
	case random.IntN(6) == 0:
		return one(random, odd4)
	}
	return one(random, hosts4)
}

// randomPacket makes an IP packet. The source is random if it is not valid; depth is how many ICMP
// errors or tunnel headers the packet is in.
func randomPacket(random *rand.Rand, v6 bool, source netip.Addr, depth int) []byte {
	if !source.IsValid() {
		source = randomAddress(random, v6)
	}
	destination := randomAddress(random, v6)
	protocol, payload := randomPayload(random, v6, destination, depth)
	if v6 {
		return randomIPv6(random, source, destination, protocol, payload)
	}
	return randomIPv4(random, source, destination, protocol, payload)
}

// randomPayload makes what IP carries to a destination.
func randomPayload(random *rand.Rand, v6 bool, destination netip.Addr, depth int) (protocol byte, payload []byte) {
	kind := random.IntN(16)
	switch {
	case kind < 5 && depth < 2: // ICMP
		protocol, types := byte(1), []byte{3, 3, 4, 11, 12, 5, 0, 8}
		if v6 {
			protocol, types = 58, []byte{1, 2, 3, 4, 1, 128, 133, 135, 137, 138}
		}
		payload = append([]byte{one(random, types), byte(random.IntN(5))}, make([]byte, 6)...)
		sender := destination // as it should be
		if random.IntN(8) == 0 {
			sender = netip.Addr{}
		}
		quote := randomPacket(random, v6 != (random.IntN(40) == 0), sender, depth+1)
		if random.IntN(3) == 0 {
			quote = quote[:random.IntN(len(quote)+1)]
		}
		return protocol, append(payload, quote...)
	case kind == 5 && depth < 2: // a tunnel
		inner := random.IntN(2) == 0
		protocol = 4
		if inner {
			protocol = 41
		}
		return protocol, randomPacket(random, inner, netip.Addr{}, depth+1)
	case kind == 6:
		protocol = byte(random.Uint32())
	case kind < 12:
		protocol = 6
	default:
		protocol = 17
	}
	payload = binary.BigEndian.AppendUint16(payload, one(random, portNumbers))
	payload = binary.BigEndian.AppendUint16(payload, one(random, portNumbers))
	payload = append(payload, make([]byte, random.IntN(20))...)
	if len(payload) > 13 {
		tcpFlags := []byte{0, 0x02, 0x02, 0xc2, 0x10, 0x10, 0x11, 0x12, 0x04, 0x03}
		payload[13] = one(random, tcpFlags)
	}
	if random.IntN(20) == 0 {
		payload = payload[:random.IntN(len(payload))]
	}
	return protocol, payload
}

func randomIPv4(random *rand.Rand, source, destination netip.Addr, protocol byte, payload []byte) []byte {
	header := make([]byte, 20)
	if !source.Is4() || !destination.Is4() { // the quote of another family
		source, destination = hosts4[0], hosts4[1]
	}
	if random.IntN(8) == 0 {
		header = make([]byte, 20+4*random.IntN(11))
	}
	header[0], header[8], header[9] = 0x40|byte(len(header)/4), 64, protocol
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(payload)))
	if random.IntN(5) == 0 {
		binary.BigEndian.PutUint16(header[6:], one(random, []uint16{0x2000, 0x2000, 0x2001, 0x0001, 0x1fff, 0x4000, 0x8000, 0x2005}))
		header[5] = byte(random.IntN(2)) // identification
	}
	copy(header[12:], source.AsSlice())
	copy(header[16:], destination.AsSlice())
	return append(header, payload...)
}

func randomIPv6(random *rand.Rand, source, destination netip.Addr, protocol byte, payload []byte) []byte {
	if source.Is4() || destination.Is4() { // the quote of another family
		source, destination = hosts6[0], hosts6[1]
	}
	next, chain := randomExtensions(random, protocol)
	header := make([]byte, 40)
	header[0], header[6], header[7] = 0x60, next, one(random, []byte{64, 255})
	binary.BigEndian.PutUint16(header[4:], uint16(len(chain)+len(payload)))
	s, d := source.As16(), destination.As16()
	copy(header[8:], s[:])
	copy(header[24:], d[:])
	return slices.Concat(header, chain, payload)
}

// randomExtensions makes extension headers in front of a protocol, mostly none.
func randomExtensions(random *rand.Rand, protocol byte) (next byte, chain []byte) {
	if random.IntN(2) == 0 {
		return protocol, nil
	}
	count := 1 + random.IntN(3)
	if random.IntN(10) == 0 {
		count = 7 + random.IntN(3)
	}
	next = protocol
	for range count {
		header := make([]byte, 8)
		kind := one(random, []byte{0, 43, 44, 44, 60})
		header[0] = next
		switch kind {
		case 44:
			binary.BigEndian.PutUint16(header[2:], one(random, []uint16{0, 1, 1, 8, 9, 0xfff8, 6}))
			header[7] = byte(random.IntN(2)) // identification
		case 43:
			header[3] = byte(random.IntN(8) / 7)
		}
		if kind != 44 && random.IntN(4) == 0 {
			header[1] = byte(1 + random.IntN(3))
			header = append(header, make([]byte, 8*int(header[1]))...)
		}
		chain = append(header, chain...)
		next = kind
	}
	return next, chain
}

// related makes a frame of the same connection as a frame with a plain TCP header: another segment
// in either direction, or an error about one. It returns nil for other frames.
func related(random *rand.Rand, frame []byte) []byte {
	header, protocol, from, size := 20, 23, 26, 4
	if len(frame) > 14 && frame[12] == 0x86 {
		header, protocol, from, size = 40, 20, 22, 16
	}
	ports := 14 + header
	if len(frame) < ports+14 || frame[12] != 0x08 && frame[12] != 0x86 || frame[12] == 0x08 && frame[14] != 0x45 || frame[protocol] != 6 {
		return nil
	}
	frame = slices.Clone(frame)
	frame[ports+13] = one(random, []byte{0x10, 0x10, 0x12, 0x11, 0x04, 0x02})
	kind := random.IntN(8)
	if kind >= 4 {
		return frame
	}
	source, destination := slices.Clone(frame[from:from+size]), frame[from+size:from+2*size]
	copy(frame[from:], destination)
	copy(destination, source)
	frame[ports], frame[ports+1], frame[ports+2], frame[ports+3] = frame[ports+2], frame[ports+3], frame[ports], frame[ports+1]
	if kind >= 2 {
		return frame
	}
	to, _ := netip.AddrFromSlice(frame[from : from+size])
	quote := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, frame[14:]...)
	if size == 4 {
		return append(slices.Clone(frame[:14]), randomIPv4(random, hosts4[0], to, 1, quote)...)
	}
	return append(slices.Clone(frame[:14]), randomIPv6(random, hosts6[0], to, 58, quote)...)
}

// mutate changes a few bytes, mostly in the headers and mostly to values that mean something.
func mutate(random *rand.Rand, frame []byte) []byte {
	frame = append([]byte{}, frame...)
	telling := []byte{0, 1, 3, 4, 5, 6, 8, 17, 41, 43, 44, 58, 60, 0x40, 0x45, 0x46, 0x4f, 0x60, 0x20, 0x81, 0x86, 0xdd, 0xff, 80, 53, 10, 11}
	for range 1 + random.IntN(3) {
		at := random.IntN(min(len(frame), 120))
		switch random.IntN(3) {
		case 0:
			frame[at] = byte(random.Uint32())
		case 1:
			frame[at] ^= 1 << random.IntN(8)
		default:
			frame[at] = telling[random.IntN(len(telling))]
		}
	}
	if random.IntN(8) == 0 {
		frame = frame[:14+random.IntN(len(frame)-13)]
	}
	return frame
}
