package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// TestOneOwner: whichever worker receives a packet of a flow, from either side, the same worker
// processes it.
func TestOneOwner(t *testing.T) {
	for _, test := range []struct {
		name      string
		own       pipeline.Ownership
		persistMs uint32
	}{
		{"by flow", pipeline.ByFlow, 0}, {"by address", pipeline.ByAddress, 300_000},
	} {
		for _, workers := range []int{2, 3, 7} {
			t.Run(fmt.Sprint(test.name, " ", workers), func(t *testing.T) {
				both(t, func(t *testing.T, client, vip string) {
					s := svc{vip: vip, own: test.own, persistMs: test.persistMs, backends: []backend{{host: 11, port: 8080}}}
					w := newWorlds(t, workers, 1024, s)
					host, owners, byHost := "10.0.0.11", make(map[int]int), make(map[string]int)
					if vip == vip6 {
						host = "2001:db8:a::11"
					}
					for n := range 100 {
						from := fmt.Sprintf("192.0.2.%d:%d", 1+n%10, 2000+n)
						if vip == vip6 {
							from = fmt.Sprintf("[2001:db8:9::%d]:%d", 1+n%10, 2000+n)
						}
						owner := w.raw(n%workers, front, packettest.TCP(from, port(vip, "80")).Flags(syn).Frame()).owner
						owners[owner]++
						address := packettest.Addr(from).String()
						if was, ok := byHost[address]; ok && was != owner && test.own == pipeline.ByAddress {
							t.Errorf("%s is with worker %d, and with %d", address, was, owner)
						}
						byHost[address] = owner
						about := packettest.TCP(port(vip, "80"), from).IP()
						back4 := packettest.TCP(from, port(host, "8080")).IP()
						transit, typ := transit4, uint8(3)
						if vip == vip6 {
							transit, typ = transit6, 1
						}
						for receiver := range workers {
							for what, o := range map[string]outcome{
								"packet":            w.raw(receiver, front, packettest.TCP(from, port(vip, "80")).Frame()),
								"answer":            w.raw(receiver, back, packettest.TCP(port(host, "8080"), from).Frame()),
								"error to the VIP":  w.raw(receiver, front, packettest.ICMP(transit, vip, typ, 1, 0, about).Frame()),
								"error to a client": w.raw(receiver, back, packettest.ICMP(host, address, typ, 1, 0, back4).Frame()),
							} {
								if o.String() != "forward" || o.owner != owner || receiver != owner && o.Hops != 1 || receiver == owner && o.Hops != 0 {
									t.Fatalf("%s of %s at worker %d: %s by worker %d after %d hops; owner %d", what, from, receiver, o, o.owner, o.Hops, owner)
								}
							}
						}
					}
					if len(owners) < 2 {
						t.Errorf("all flows are with one worker: %v", owners)
					}
					w.sum()
				})
			})
		}
	}
}

// TestFullNATOwner: replies arrive at a local port of the worker that has the connection.
func TestFullNATOwner(t *testing.T) {
	w := newWorlds(t, 3, 1024, svc{mode: service.FullNAT, backends: []backend{{host: 11, port: 80}}})
	taken := make(map[uint16]bool)
	for n := range 60 {
		o := w.raw(n%3, front, packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 2000+n), web4).Flags(syn).Frame())
		w.ends(o, "forward")
		local := uint16(o.frame()[34])<<8 | uint16(o.frame()[35])
		if taken[local] {
			t.Fatalf("port %d is given twice", local)
		}
		taken[local] = true
		for receiver := range 3 {
			answer := w.raw(receiver, back, packettest.TCP("10.0.0.11:80", fmt.Sprintf("10.0.0.2:%d", local)).Flags(syn|ack).Frame())
			if answer.String() != "forward" || answer.owner != o.owner {
				t.Errorf("answer at worker %d: %s by %d, owner is %d", receiver, answer, answer.owner, o.owner)
			}
			about := packettest.TCP(fmt.Sprintf("10.0.0.2:%d", local), "10.0.0.11:80").IP()
			e := w.raw(receiver, back, packettest.ICMP("10.0.0.11", "10.0.0.2", 3, 1, 0, about).Frame())
			if e.String() != "forward" || e.owner != o.owner {
				t.Errorf("error at worker %d: %s by %d, owner is %d", receiver, e, e.owner, o.owner)
			}
		}
	}
	w.sum()
}

// TestReceiverOwns: a new flow is owned by the worker that receives it. A packet without a
// connection there is passed to each of the other workers in turn, and then dropped or answered.
func TestReceiverOwns(t *testing.T) {
	const workers = 3
	w := newWorlds(t, workers, 1024, svc{mode: service.DR, own: pipeline.ByReceiver, backends: []backend{{host: 11, port: 80}}})
	error := func(from string) []byte {
		return packettest.ICMP(transit4, vip4, 3, 1, 0, packettest.TCP(web4, from).IP()).Frame()
	}
	for first := range workers {
		from := fmt.Sprintf("192.0.2.7:%d", 2000+first)
		if o := w.raw(first, front, packettest.TCP(from, web4).Flags(syn).Frame()); o.String() != "forward" || o.owner != first {
			t.Fatalf("%s by %d", o, o.owner)
		}
		for receiver := range workers {
			away := (first - receiver + workers) % workers
			for what, frame := range map[string][]byte{"packet": packettest.TCP(from, web4).Frame(), "error": error(from)} {
				if o := w.raw(receiver, front, frame); o.String() != "forward" || o.owner != first || int(o.Hops) != away {
					t.Errorf("%s at worker %d: %s by %d after %d hops", what, receiver, o, o.owner, o.Hops)
				}
			}
		}
	}
	for receiver := range workers {
		for what, test := range map[string]struct {
			frame []byte
			want  string
		}{
			"ACK":   {packettest.TCP("192.0.2.8:1", web4).Frame(), "reply"},
			"RST":   {packettest.TCP("192.0.2.8:1", web4).Flags(rst).Frame(), "no_connection"},
			"error": {error("192.0.2.8:1"), "icmp_no_flow"},
		} {
			if o := w.raw(receiver, front, test.frame); o.String() != test.want || int(o.Hops) != workers-1 {
				t.Errorf("%s of no flow at worker %d: %s after %d hops", what, receiver, o, o.Hops)
			}
		}
	}
	w.sum()
}

// TestHandOverLeavesFrameAlone: the owner gets the frame as it was received, with the port and
// queue that received it.
func TestHandOverLeavesFrameAlone(t *testing.T) {
	w := newWorlds(t, 2, 1024, nat())
	for n := range 20 {
		in := packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 2000+n), web4).Flags(syn)
		c := in.Chunk()
		w.batch.Frames[0] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End, Port: front}
		w.procs[0].Process(w.batch, 1, w.tables, w.now)
		f := w.batch.Frames[0]
		if f.Verdict == pipeline.HandOver && (f.Worker != 1 || f.Hops != 1 || f.Port != front ||
			packettest.Diff(in.Frame(), f.Mem[f.Start:f.End]) != "") {
			t.Errorf("%+v", f)
		}
	}
}
