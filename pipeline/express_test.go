package pipeline_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// expressModes are the services of everyMode, and more of those that have a lane.
func expressModes() []svc {
	return append(everyMode(),
		svc{ports: service.Ports{First: 83, Last: 83}, mode: service.DR, backends: []backend{{host: 20, port: 83}}},
		svc{ports: service.Ports{First: 84, Last: 84}, proto: service.UDP, backends: []backend{{host: 11, port: 53}, {host: 12}}},
		svc{ports: service.Ports{First: 85, Last: 85}, mode: service.TUN, backends: []backend{{host: 12, port: 85}, {host: 13, port: 85, v6: true}}},
		svc{vip: vip6, ports: service.Ports{First: 84, Last: 84}, proto: service.UDP, backends: []backend{{host: 11, port: 53}, {host: 12}}},
		svc{vip: vip6, ports: service.Ports{First: 85, Last: 85}, mode: service.TUN, backends: []backend{{host: 12, port: 85}}},
		svc{vip: vip6, ports: service.Ports{First: 83, Last: 83}, mode: service.DR, backends: []backend{{host: 20, port: 83}}},
		svc{vip: vip6, ports: service.Ports{First: 82, Last: 82}, proto: service.UDP, mode: service.DR, backends: []backend{{host: 20, port: 82}}})
}

// conversation is a random frame of a few flows through expressModes, in either direction, with hardly ever anything
// wrong about it. Most of those from backends answer the packet that reached one last, which may be none.
func conversation(r *rand.Rand, last *packet.Meta) (side int, frame []byte) {
	client, vip, host := fmt.Sprintf("192.0.2.%d:%d", 1+r.IntN(2), 1024+r.IntN(3)), vip4, "10.0.0.%d"
	if r.IntN(2) == 0 {
		client, vip, host = fmt.Sprintf("[2001:db8:9::%d]:%d", 1+r.IntN(2), 1024+r.IntN(3)), vip6, "2001:db8:a::%d"
	}
	from, to, tcp := client, port(vip, fmt.Sprint([]int{80, 82, 83, 84, 85, 443}[r.IntN(6)])), r.IntN(2) == 0
	switch r.IntN(8) {
	case 0, 1, 2:
		if side = back; last.Proto != 0 {
			from, to = port(last.Dst.String(), fmt.Sprint(last.DstPort)), port(last.Src.String(), fmt.Sprint(last.SrcPort))
			tcp = last.Proto == packet.TCP
		}
	case 3:
		side = back
		from = port(fmt.Sprintf(host, 11+r.IntN(3)), fmt.Sprint([]int{80, 84, 53, 8080}[r.IntN(4)]))
		to = client
	}
	p := packettest.UDP(from, to)
	if tcp {
		flags := []uint8{syn, syn | ack, fin | ack, rst, fin | 8, 0, syn, syn}
		p = packettest.TCP(from, to).Flags(append(flags, bytes.Repeat([]byte{ack, ack | 8}, 12)...)[r.IntN(32)])
	} else if r.IntN(4) == 0 && len(p.IP()) > 0 && p.IP()[0]>>4 == 4 {
		p = p.NoChecksum()
	}
	p = p.TTL(uint8([]int{64, 64, 64, 2, 1}[r.IntN(5)])).Payload(make([]byte, []int{0, 1, 7, 100, 1430, 1460, 1480}[r.IntN(7)]))
	if r.IntN(4) == 0 {
		p = p.DF()
	}
	if r.IntN(8) == 0 {
		p = p.WrongBy(uint16(r.Uint32()))
	}
	frame = p.Frame()
	if r.IntN(6) == 0 {
		frame = append(frame, make([]byte, r.IntN(20))...) // padding
	}
	return side, frame
}

// state is all that a worker has kept of the frames that it saw.
func state(p *pipeline.Processor) string {
	var out bytes.Buffer
	fmt.Fprintln(&out, p.Packets)
	for id := range p.Backends[:64] {
		if b := &p.Backends[id]; *b != (counter.Backend{}) {
			fmt.Fprintln(&out, id, *b)
		}
	}
	for _, family := range []int{4, 6} {
		t := p.Table(family)
		var entries []string
		for cursor, first := uint32(0), true; first || cursor != 0; first = false {
			cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
				entries = append(entries, fmt.Sprintf("%+v of %v to %v", *c, t.Client(c), t.BackendAddr(c)))
			})
		}
		slices.Sort(entries)
		fmt.Fprintln(&out, entries)
	}
	return out.String()
}

// TestExpressIsOrdinary sends the same frames through a world with the express lane and through one without: whatever
// comes, the same leaves, and the same is remembered and counted.
func TestExpressIsOrdinary(t *testing.T) {
	for _, workers := range []int{1, 3} {
		for _, net := range []network{{}, {frontMTU: 1280, mtu: 1400}, {silent: 11}, {noRouter: true}, {vlan: 7}} {
			t.Run(fmt.Sprintf("%d/%+v", workers, net), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(workers), uint64(net.mtu)))
				var w [2]*world
				for i := range w {
					w[i] = newWorlds(t, workers, 4096)
					w[i].net, w[i].ordinary = net, i == 1
					w[i].configure(expressModes()...)
				}
				expressed, last := make(map[string]int), packet.Meta{}
				for n := 0; n < 30_000 && !t.Failed(); n++ {
					side, frame := conversation(r, &last)
					switch r.IntN(20) {
					case 0:
						frame = damage(r, frame)
					case 1:
						frame = seeds()[r.IntN(len(seeds()))]
					}
					worker, ms, change := r.IntN(workers), uint32(r.IntN(40)), n%3000 == 2999
					var o [2]outcome
					for i := range w {
						o[i] = w[i].raw(worker, side, frame)
						if w[i].now += ms; change {
							w[i].evictFirst(n%6000 < 3000)
						}
					}
					a, b := &o[0], &o[1]
					if a.String() != b.String() || a.owner != b.owner || a.Verdict != pipeline.Drop && (a.Port != b.Port || !bytes.Equal(a.frame(), b.frame())) {
						t.Fatalf("frame %d of worker %d:\n%sexpress:  %s by %d of %d\n%sordinary: %s by %d of %d\n%s", n, worker, packettest.Decode(frame),
							a, a.Port, a.owner, packettest.Decode(a.frame()), b, b.Port, b.owner, packettest.Decode(b.frame()))
					}
					if side == front && a.Verdict == pipeline.Forward && int(a.Port) == back {
						packet.Parse(a.Mem, a.Start, a.End, &last)
					}
					if a.Expressed() {
						expressed[kindOf(frame, side)]++
					}
				}
				for i := range w[0].procs {
					if a, b := state(w[0].procs[i]), state(w[1].procs[i]); a != b {
						t.Errorf("worker %d:\nexpress\n%s\nordinary\n%s", i, a, b)
					}
				}
				if net == (network{}) {
					for _, kind := range []string{"tcp4 in", "tcp4 out", "udp4 in", "udp4 out", "tcp6 in", "tcp6 out", "udp6 in", "udp6 out"} {
						if expressed[kind] < 50/workers/2 {
							t.Errorf("%s took the express lane %d times: %v", kind, expressed[kind], expressed)
						}
					}
				}
			})
		}
	}
}

// kindOf names a frame's protocol, family and direction.
func kindOf(frame []byte, side int) string {
	c := packettest.Place(frame)
	var m packet.Meta
	packet.Parse(c.Mem, c.Start, c.End, &m)
	proto := map[uint8]string{packet.TCP: "tcp", packet.UDP: "udp"}[m.Proto]
	return fmt.Sprintf("%s%d %s", proto, m.Family, []string{front: "in", back: "out"}[side])
}
