package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// everyMode is a configuration with services of all modes, families and protocols, that share
// addresses.
func everyMode() string {
	return config(
		svc{name: "nat4", backends: []string{"10.0.0.11:8080", "10.0.0.12:8080"}},
		svc{name: "any4", proto: "udp", port: "any", sched: "wlc", backends: []string{"10.0.0.11", "10.0.0.13"}},
		svc{name: "sticky", port: "81", sched: "random", extra: `persistence = "1m"`, backends: []string{"10.0.0.14:80", "10.0.0.15:80"}},
		svc{name: "full", port: "82", mode: "fullnat", sched: "p2c", extra: `source = ["10.0.0.2"]`, backends: []string{"10.0.0.11:8080", "10.0.0.16:80"}},
		svc{name: "nat6", vip: vip6, sched: "mh", backends: []string{"[2001:db8:a::11]:80", "[2001:db8:a::12]:80"}},
		svc{name: "tun6", vip: vip6, port: "443", mode: "tun", sched: "sh", backends: []string{"[2001:db8:a::13]:443", "10.0.0.17:443"}},
		svc{name: "dr4", vip: "198.51.100.11", mode: "dr", sched: "lc", backends: []string{"10.0.0.11:80", "10.0.0.12:80"}},
		svc{name: "tun4", vip: "198.51.100.11", proto: "udp", port: "53", mode: "tun", sched: "sed", backends: []string{"10.0.0.18:53"}},
	)
}

// end is where a flow of a protocol leads, seen from its client or behind.
type end struct{ proto, addr string }

// The services and backends of everyMode, with some that there are not.
var (
	virtual4 = []end{{"tcp", vip4 + ":80"}, {"tcp", vip4 + ":80"}, {"udp", vip4 + ":80"}, {"udp", vip4 + ":999"}, {"tcp", vip4 + ":81"},
		{"tcp", vip4 + ":82"}, {"tcp", "198.51.100.11:80"}, {"udp", "198.51.100.11:53"}, {"tcp", "198.51.100.12:80"}}
	virtual6 = []end{{"tcp", "[" + vip6 + "]:80"}, {"tcp", "[" + vip6 + "]:443"}, {"udp", "[" + vip6 + "]:81"}}
	real4    = []end{{"tcp", "10.0.0.11:8080"}, {"tcp", "10.0.0.12:8080"}, {"udp", "10.0.0.11:999"}, {"udp", "10.0.0.13:80"},
		{"tcp", "10.0.0.14:80"}, {"tcp", "10.0.0.15:80"}, {"tcp", "10.0.0.16:80"}, {"tcp", "10.0.0.99:80"}}
	real6 = []end{{"tcp", "[2001:db8:a::11]:80"}, {"tcp", "[2001:db8:a::12]:80"}, {"tcp", "[2001:db8:a::13]:443"}}
)

// randomPacket is a well-formed packet of one of some hundred flows: from a client, from a backend,
// or an ICMP error about either.
func randomPacket(r *rand.Rand) packettest.Packet {
	client, virtual, real := fmt.Sprintf("192.0.2.%d:%d", 1+r.IntN(4), 40000+r.IntN(4)), virtual4, real4
	router, local := "203.0.113.77", fmt.Sprintf("10.0.0.2:%d", 1024+r.IntN(40))
	if r.IntN(3) == 0 {
		client, virtual, real = fmt.Sprintf("[2001:db8:9::%d]:%d", 1+r.IntN(4), 40000+r.IntN(4)), virtual6, real6
		router, local = "2001:db8:77::1", client
	}
	other := virtual[r.IntN(len(virtual))]
	from, to := client, other.addr
	if r.IntN(3) == 0 {
		other = real[r.IntN(len(real))]
		if from, to = other.addr, client; r.IntN(4) == 0 {
			to = local
		}
	}
	p := packettest.UDP(from, to)
	if (other.proto == "tcp") != (r.IntN(20) == 0) {
		p = packettest.TCP(from, to).Flags([]uint8{syn, syn, syn | ack, ack, ack, ack, fin | ack, rst}[r.IntN(8)])
	}
	p = p.TTL([]uint8{64, 64, 64, 64, 64, 64, 2, 1}[r.IntN(8)]).Payload(make([]byte, []int{0, 0, 1, 2, 100, 1400, 1460, 1480}[r.IntN(8)]))
	switch r.IntN(20) {
	case 0:
		p = p.VLAN(uint16(1 + r.IntN(4000)))
	case 1, 2:
		p = p.DF()
	case 3:
		p = p.Fragment(uint16(8*r.IntN(2)), true)
	}
	if r.IntN(8) == 0 {
		typ := uint8(3)
		if packettest.Addr(client).Is6() {
			typ = 1
		}
		p = packettest.ICMP(router, packettest.Addr(from).String(), typ, 1, 0, p.Payload([]byte("short")).IP())
	}
	return p
}

// mutate damages a frame: bytes changed, cut off, added, or all of them random.
func mutate(r *rand.Rand, frame []byte) []byte {
	frame = append([]byte(nil), frame...)
	switch r.IntN(5) {
	case 0, 1:
		for range 1 + r.IntN(4) {
			frame[r.IntN(min(len(frame), 80))] = byte(r.Uint32())
		}
	case 2:
		frame = frame[:r.IntN(len(frame)+1)]
	case 3:
		frame = append(frame, make([]byte, r.IntN(60))...)
	case 4:
		frame = make([]byte, r.IntN(1600))
		for i := range frame {
			frame[i] = byte(r.Uint32())
		}
	}
	return frame
}

// randomFrames builds that many different random frames, and then only damages them again.
func randomFrames(r *rand.Rand, kinds, n int, damaged float64, each func(frame []byte, whole bool)) {
	pool := make([][]byte, kinds)
	for i := range pool {
		pool[i] = randomPacket(r).Frame()
	}
	for range n {
		frame := pool[r.IntN(kinds)]
		if r.Float64() < damaged {
			each(mutate(r, frame), false)
		} else {
			each(frame, true)
		}
	}
}

const longest = 14 + 4 + 1500 // Ethernet header, tag, MTU of the ports

// perLot is how many frames a test sends in one go: two lots for each of five layouts make 100,000.
var perLot = map[bool]int{false: 10_000, true: 4_000}[raceDetector]

// TestIdentity: of 100,000 random and damaged frames each is accounted for, none leaves too long,
// and those that come in with right checksums go out with right ones. All the while the engine is
// looked at and changed from outside: with the race detector this is the project's test for races.
func TestIdentity(t *testing.T) {
	for i, layout := range layouts {
		t.Run(layout.name, func(t *testing.T) {
			if i > 0 {
				slow(t)
			}
			lab := enginetest.New(t, layout.queues...)
			lab.Start(layout.workers, everyMode())
			for _, damaged := range []float64{0, 0.5} {
				r := rand.New(rand.NewPCG(1, uint64(layout.workers)))
				stop := disturb(t, lab)
				n := 0
				randomFrames(r, 2000, perLot, damaged, func(frame []byte, _ bool) {
					lab.Arrive(r.IntN(len(layout.queues)), frame)
					if n++; n%500 == 0 {
						checkSent(t, lab, damaged == 0)
					}
				})
				stop()
				lab.Quiet()
				checkSent(t, lab, damaged == 0)
			}
			s := lab.Stats()
			if s.Forwarded < s.Rx/5 || s.Replied == 0 {
				t.Errorf("of %d frames %d were forwarded and %d answered; %v", s.Rx, s.Forwarded, s.Replied, s.Drops)
			}
		})
	}
}

func checkSent(t *testing.T, lab *enginetest.Lab, whole bool) {
	t.Helper()
	for _, s := range lab.Collect() {
		if len(s.Frame) > longest {
			t.Errorf("sent a frame of %d bytes", len(s.Frame))
		}
		if err := packettest.CheckSums(s.Frame); whole && err != nil {
			t.Errorf("%v\n%s", err, packettest.Decode(s.Frame))
		}
	}
}

// disturb asks and changes whatever it can, until stop.
func disturb(t *testing.T, lab *enginetest.Lab) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	forever := func(name string, f func(i int) error) {
		running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := api.Answered(f(i)); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	forever("ask", func(int) error {
		if _, err := lab.Engine.List(ctx); err != nil {
			return err
		}
		if _, err := lab.Engine.Conns(ctx, api.ConnQuery{Client: "192.0.2.3"}); err != nil {
			return err
		}
		s, err := lab.Engine.Stats(ctx)
		if err == nil && s.Frames.InFlight > s.Frames.Total {
			return fmt.Errorf("%+v", s.Frames)
		}
		return err
	})
	forever("change", func(i int) error {
		if _, err := lab.Engine.SetWeight(ctx, "nat4", "10.0.0.11:8080", i%3); err != nil {
			return err
		}
		lab.Change(func(s *enginetest.Surroundings) {
			n := s.Forget("10.0.0.12")
			if n.MAC = enginetest.HostMAC(12); i%2 == 0 {
				n.MAC = enginetest.HostMAC(19)
			}
			s.Neighbours = append(s.Neighbours, n)
		})
		_, err := lab.Engine.Reload(ctx, api.ReloadOptions{Force: true})
		return err
	})
	return func() {
		cancel()
		running.Wait()
	}
}
