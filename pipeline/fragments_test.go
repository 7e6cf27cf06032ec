package pipeline_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// split returns the fragments of a packet without extension headers, with at most mtu bytes each.
func split(p packettest.Packet, id uint32, mtu int) [][]byte {
	return packettest.Split(p.Frame(), id, mtu)
}

// reassembler is the obvious twin: it puts packets together again.
type reassembler map[string]map[int][]byte

// add adds the IP packet of a frame, and returns it whole, without fragment headers, if that is
// complete.
func (r reassembler) add(ip []byte) []byte {
	var key string
	var offset, header int
	var more bool
	if ip[0]>>4 == 4 {
		ip = ip[:binary.BigEndian.Uint16(ip[2:])]
		flags := binary.BigEndian.Uint16(ip[6:])
		offset, more, header = int(flags&0x1fff)*8, flags&0x2000 != 0, 20
		key = string(ip[12:20]) + string(ip[4:6]) + string(ip[9:10])
	} else {
		ip = ip[:40+int(binary.BigEndian.Uint16(ip[4:]))]
		if ip[6] != 44 {
			return ip
		}
		flags := binary.BigEndian.Uint16(ip[42:])
		offset, more, header = int(flags&^7), flags&1 != 0, 48
		key = string(ip[8:40]) + string(ip[44:48])
	}
	if offset == 0 && !more {
		return ip
	}
	parts := r[key]
	if parts == nil {
		parts = make(map[int][]byte)
		r[key] = parts
	}
	parts[offset] = ip[header:]
	if !more {
		parts[-1] = nil
		parts[-2] = make([]byte, offset+len(ip)-header)
	}
	if offset == 0 {
		parts[-3] = ip[:header]
	}
	if parts[-3] == nil || parts[-2] == nil {
		return nil
	}
	whole := bytes.Clone(parts[-3])
	for at := 0; at < len(parts[-2]); {
		part, ok := parts[at]
		if !ok || len(part) == 0 {
			return nil
		}
		whole = append(whole, part...)
		at += len(part)
	}
	delete(r, key)
	if whole[0]>>4 == 6 {
		whole[6] = whole[40]
		whole = append(whole[:40:40], whole[48:]...)
		binary.BigEndian.PutUint16(whole[4:], uint16(len(whole)-40))
		return whole
	}
	binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
	binary.BigEndian.PutUint16(whole[6:], 0)
	return whole
}

// follow processes a frame of which the fields are set, from worker to worker, until its end.
func (w *world) follow(worker int, f pipeline.Frame) outcome {
	w.t.Helper()
	for range 2*len(w.procs) + 2 {
		w.batch.Frames[0] = f
		w.procs[worker].Process(w.batch, 1, w.tables, w.now)
		if f = w.batch.Frames[0]; f.Verdict != pipeline.HandOver {
			return outcome{f, worker}
		}
		worker = int(f.Worker)
	}
	w.t.Fatal("a frame goes round for ever")
	return outcome{}
}

// released processes the fragments that have waited and can go on.
func (w *world) released() (all []outcome) {
	for i, p := range w.procs {
		for p.FragmentsReady() {
			f := [1]pipeline.Frame{{Mem: make([]byte, 4096)}}
			if p.ReleaseFragments(f[:], 256) != 1 {
				w.t.Fatal("nothing is released, but something was ready")
			}
			all = append(all, w.follow(i, f[0]))
		}
	}
	return all
}

// through sends frames from a side, each to a worker at random, and returns the IP packets that
// leave, put together. It fails unless all leave.
func (w *world) through(r *rand.Rand, side int, frames [][]byte) (whole [][]byte) {
	w.t.Helper()
	twin := make(reassembler)
	take := func(o outcome) {
		switch o.String() {
		case "forward":
			if ip := twin.add(o.frame()[14:]); ip != nil {
				whole = append(whole, ip)
			}
		default:
			w.t.Errorf("verdict %s", o)
		}
	}
	for _, frame := range frames {
		o := w.raw(r.IntN(len(w.procs)), side, frame)
		if o.String() != "wait" {
			take(o)
		}
		for _, o := range w.released() {
			take(o)
		}
	}
	if len(twin) > 0 {
		w.t.Errorf("%d packets are incomplete", len(twin))
	}
	return whole
}

// payload returns n bytes that are not all the same.
func payload(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestFragments: fragments of a datagram arrive in any order, at any worker, and leave as those of
// the datagram that would have left, in both directions of all modes.
func TestFragments(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
			for _, own := range []pipeline.Ownership{pipeline.ByFlow, pipeline.ByAddress, pipeline.ByReceiver} {
				if own == pipeline.ByReceiver && mode != service.TUN && mode != service.DR {
					continue
				}
				t.Run(fmt.Sprint(mode, " ", workers, " workers ", own), func(t *testing.T) {
					both(t, func(t *testing.T, client, vip string) {
						if mode == service.FullNAT && vip == vip6 {
							return
						}
						s := svc{vip: vip, proto: service.UDP, mode: mode, own: own, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
						if own == pipeline.ByAddress {
							s.persistMs = 300_000
						}
						testFragments(t, newWorlds(t, workers, 1024, s), client, vip, mode)
					})
				})
			}
		}
	}
}

func testFragments(t *testing.T, w *world, client, vip string, mode service.Mode) {
	r := rand.New(rand.NewPCG(1, uint64(len(w.procs))))
	web := port(vip, "80")
	mtu := 1500
	if mode == service.TUN {
		mtu = 1460
	}
	for n := range 20 {
		body := payload(r, 1500+r.IntN(10000))
		frames := split(packettest.UDP(client, web).Payload(body), uint32(n), mtu)
		r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		whole := w.through(r, front, frames)
		if mode == service.TUN { // each fragment is in a packet of its own
			inner := make(reassembler)
			var got []byte
			for _, outer := range whole {
				header := 20
				if outer[0]>>4 == 6 {
					header = 40
				}
				if ip := inner.add(outer[header:]); ip != nil {
					got = ip
				}
			}
			whole = [][]byte{got}
		}
		if len(whole) != 1 || !bytes.Equal(whole[0][len(whole[0])-len(body):], body) {
			t.Fatalf("datagram %d of %d bytes: %d packets arrive", n, len(body), len(whole))
		}
		checkUDP(t, whole[0])
		if !mode.RepliesThroughUs() {
			continue
		}
		c := w.only()
		host := fmt.Sprintf("10.0.0.%d", 10+c.Backend)
		if vip == vip6 {
			host = fmt.Sprintf("2001:db8:a::%d", 10+c.Backend)
		}
		to := client
		if mode == service.FullNAT {
			to = fmt.Sprintf("10.0.0.2:%d", c.Extra)
		}
		frames = split(packettest.UDP(port(host, "80"), to).Payload(body), uint32(n), 1500)
		r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		whole = w.through(r, back, frames)
		want := packettest.UDP(web, client).Payload(body).TTL(63).IP()
		if len(whole) != 1 {
			t.Fatalf("reply %d: %d packets arrive", n, len(whole))
		}
		if whole[0][0]>>4 == 4 { // identification and the checksum over it
			copy(whole[0][4:6], want[4:6])
			copy(whole[0][10:12], want[10:12])
		}
		if !bytes.Equal(whole[0], want) {
			t.Fatalf("reply %d differs", n)
		}
	}
	if all := w.sum(); all.Dropped() != 0 || all.Waiting != 0 || all.ConnOpened != 1 {
		t.Errorf("%+v", all)
	}
}

// checkUDP checks the checksum of a datagram.
func checkUDP(t *testing.T, ip []byte) {
	t.Helper()
	header, src, dst := 20, ip[12:16], ip[16:20]
	if ip[0]>>4 == 6 {
		header, src, dst = 40, ip[8:24], ip[24:40]
	}
	sum := packet.Sum(0).Bytes(src).Bytes(dst).Add(17).Add(uint64(len(ip) - header)).Bytes(ip[header:])
	if sum.Fold() != 0xffff {
		t.Errorf("the UDP checksum is wrong: %04x", sum.Fold())
	}
}

// TestFragmentsGetOwnIDs: two senders that use the same identification become one in fullnat, and
// two backends in replies of nat. Their fragments do not get mixed up.
func TestFragmentsGetOwnIDs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	w := newWorlds(t, 2, 1024, svc{proto: service.UDP, mode: service.FullNAT, backends: []backend{{host: 11, port: 80}}})
	var mixed [][]byte
	bodies := make(map[string]bool)
	var parts [2][][]byte
	for i := range parts {
		body := payload(r, 4000)
		bodies[string(body)] = true
		parts[i] = split(packettest.UDP(fmt.Sprintf("192.0.2.%d:40000", 7+i), web4).Payload(body), 77, 1500)
	}
	for i := range parts[0] {
		mixed = append(mixed, parts[0][i], parts[1][i])
	}
	for _, ip := range w.through(r, front, mixed) {
		if !bodies[string(ip[28:])] {
			t.Error("a datagram arrives that was not sent")
		}
		delete(bodies, string(ip[28:]))
		checkUDP(t, ip)
	}
	if len(bodies) > 0 {
		t.Errorf("%d datagrams do not arrive", len(bodies))
	}
	w.sum()
}

// TestFollowersAlone: followers without a first fragment wait for two seconds, and are dropped; the
// oldest also when too many wait. The counters account for all at any time.
func TestFollowersAlone(t *testing.T) {
	for _, workers := range []int{1, 3} {
		w := newWorlds(t, workers, 1024, svc{proto: service.UDP, backends: []backend{{host: 11, port: 80}}})
		for n := range 1000 {
			frames := split(packettest.UDP(client4, web4).Payload(make([]byte, 3000)), uint32(n/2), 1500)
			w.ends(w.raw(n%workers, front, frames[1+n%2]), "wait")
		}
		all := w.sum()
		if full := all.Drops[counter.FragmentFull]; all.Waiting == 0 || full == 0 || full+all.Waiting != 1000 {
			t.Errorf("%d wait, %d were displaced", all.Waiting, full)
		}
		w.pass(1999)
		if now := w.sum(); now.Waiting != all.Waiting {
			t.Errorf("%d wait after a while, %d before", now.Waiting, all.Waiting)
		}
		w.pass(1000)
		if now := w.sum(); now.Waiting != 0 || now.Drops[counter.Fragment] != all.Waiting {
			t.Errorf("%d wait, %d dropped of %d", now.Waiting, now.Drops[counter.Fragment], all.Waiting)
		}
	}
}

// TestFollowersOfRefused: followers of a first fragment that opened no connection are dropped.
func TestFollowersOfRefused(t *testing.T) {
	s := svc{proto: service.UDP, backends: []backend{{host: 11, port: 80}}}
	w := newWorlds(t, 2, 1024, denying(s, "-192.0.2.0/24"))
	frames := split(packettest.UDP(client4, web4).Payload(make([]byte, 3000)), 5, 1500)
	w.ends(w.raw(0, front, frames[0]), "access_denied")
	w.ends(w.raw(1, front, frames[1]), "fragment")
	w.ends(w.raw(0, front, frames[2]), "fragment")
	w.sum()
}

// TestBadFragments: fragments that hide ports or flags, or exceed a packet, are dropped by name.
func TestBadFragments(t *testing.T) {
	w := newWorld(t, nat())
	tcp, udp := packettest.TCP(client4, web4), packettest.UDP(client4, web4)
	for name, test := range map[string]struct {
		packet packettest.Packet
		want   string
	}{
		"first without flags (RFC 1858)":   {packettest.Raw(6, "192.0.2.7", vip4, make([]byte, 8)).Fragment(0, true), "bad_fragment"},
		"over the flags (RFC 3128)":        {tcp.Fragment(8, true).Payload(make([]byte, 4)), "bad_fragment"},
		"over the end of the header":       {tcp.Fragment(16, false), "bad_fragment"},
		"no multiple of eight":             {udp.Fragment(1480, true).Payload(make([]byte, 13)), "bad_fragment"},
		"beyond the packet":                {udp.Fragment(65528, false), "bad_fragment"},
		"of a ping":                        {packettest.ICMP("192.0.2.7", vip4, 8, 0, 1, make([]byte, 8)).Fragment(0, true), "fragment"},
		"first without the header in IPv6": {packettest.Raw(17, "2001:db8:9::7", vip6, nil).Fragment(0, true), "bad_fragment"},
		"first without ports in IPv6": {packettest.Raw(60, "2001:db8:9::7", vip6, []byte{17, 1, 1, 4, 0, 0, 0, 0}).
			Fragment(0, true), "bad_fragment"},
		"of ICMPv6": {packettest.Raw(58, "2001:db8:9::7", vip6, make([]byte, 64)).Fragment(64, true), "fragment"},
	} {
		t.Run(name, func(t *testing.T) { w.ends(w.in(test.packet), test.want) })
	}
	w.sum()
}

// FuzzFragments compares the pipeline with a twin that reassembles: of several senders that use the
// same identifications, with fragments in any order and some of them twice, the datagrams that the
// fragments make when they leave are those that were sent.
func FuzzFragments(f *testing.F) {
	f.Add(uint64(0), []byte{})
	for n := range uint64(24) {
		r := rand.New(rand.NewPCG(n, 9))
		f.Add(n, payload(r, r.IntN(40)))
	}
	f.Fuzz(func(t *testing.T, seed uint64, order []byte) {
		r := rand.New(rand.NewPCG(seed, 1))
		modes := []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR}
		mode, vip, from := modes[seed%4], vip4, "192.0.2.%d:40000"
		if seed/4%2 == 1 && mode != service.FullNAT {
			vip, from = vip6, "[2001:db8:9::%d]:40000"
		}
		w := newWorlds(t, 1+int(seed/8%3), 64, svc{vip: vip, proto: service.UDP, mode: mode, backends: []backend{{host: 11, port: 80}}})
		sent, frames := make(map[string]bool), [][]byte(nil)
		for n := range 2 + r.IntN(3) {
			body := payload(r, 1500+r.IntN(2500))
			sent[string(body)] = true
			frames = append(frames, split(packettest.UDP(fmt.Sprintf(from, 7+n), port(vip, "80")).Payload(body), 7, 1400)...)
		}
		r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		for _, b := range order {
			if i := int(b&0x7f) % len(frames); b&0x80 != 0 && len(frames) < 16 {
				frames = append(frames, frames[i])
			} else {
				frames[0], frames[i] = frames[i], frames[0]
			}
		}
		got := w.reassembled(r, mode, frames)
		for body := range sent {
			if !got[body] {
				t.Errorf("a datagram of %d bytes does not arrive", len(body))
			}
			delete(got, body)
		}
		if len(got) > 0 {
			t.Errorf("%d datagrams arrive that were not sent", len(got))
		}
		if all := w.sum(); all.Dropped() > 0 || all.Waiting > 0 {
			t.Errorf("%+v", all)
		}
	})
}

// reassembled sends frames of clients, each to a worker at random, and returns the payloads of the
// datagrams that a host makes of those that leave. Copies may make one again.
func (w *world) reassembled(r *rand.Rand, mode service.Mode, frames [][]byte) map[string]bool {
	w.t.Helper()
	twin, got := make(reassembler), make(map[string]bool)
	take := func(o outcome) {
		w.ends(o, "forward")
		ip := o.frame()[14:]
		if mode == service.TUN {
			ip = ip[20+20*(int(ip[0]>>4)-4)/2:]
		}
		if whole := twin.add(ip); whole != nil {
			checkUDP(w.t, whole)
			got[string(whole[28+20*(int(whole[0]>>4)-4)/2:])] = true
		}
	}
	for _, frame := range frames {
		if o := w.raw(r.IntN(len(w.procs)), front, frame); o.String() != "wait" {
			take(o)
		}
		for _, o := range w.released() {
			take(o)
		}
	}
	return got
}

// TestFragmentFlood: a flood of fragments of no packets, and of first fragments, allocates nothing,
// and takes nothing from other traffic.
func TestFragmentFlood(t *testing.T) {
	w := newWorlds(t, 1, 1024, svc{proto: service.UDP, backends: []backend{{host: 11, port: 80}}})
	var frames [][]byte
	for id := range uint32(100) {
		all := split(packettest.UDP(client4, web4).Payload(make([]byte, 2000)), id, 1400)
		frames = append(frames, all[1], all[0], packettest.UDP(client4, web4).Frame())
	}
	l, good := newLoad(frames[:192]...), uint64(0)
	rounds := steps(5000)
	allocs := testing.AllocsPerRun(rounds, func() {
		n := l.fill(w.batch)
		for i := 0; i < n; i += 3 { // the followers of other packets than the first fragments
			f := &w.batch.Frames[i]
			id := binary.BigEndian.Uint16(f.Mem[f.Start+18:])
			sum := binary.BigEndian.Uint16(f.Mem[f.Start+24:])
			binary.BigEndian.PutUint16(f.Mem[f.Start+18:], ^id)
			sum = packet.Diff16(id, ^id).Update(sum)
			binary.BigEndian.PutUint16(f.Mem[f.Start+24:], sum)
		}
		w.procs[0].Process(w.batch, n, w.tables, w.now)
		for i := 2; i < n; i += 3 {
			if w.batch.Frames[i].Verdict == pipeline.Forward {
				good++
			}
		}
		w.now++
	})
	if allocs != 0 {
		t.Errorf("%v allocations for each batch", allocs)
	}
	if want := uint64(64 * (rounds + 1)); good != want {
		t.Errorf("of %d other packets %d were forwarded", want, good)
	}
	if all := w.sum(); all.Drops[counter.FragmentFull] == 0 {
		t.Errorf("%+v", all)
	}
}
