package trial_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/labtest"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/trial"
	"sluice/tools/pktgen/tx"
)

func parse(t *testing.T, text string) flow.Range {
	t.Helper()
	r, err := flow.ParseRange(text)
	labtest.Must(t, err)
	return r
}

// traffic returns UDP over IPv4 or TCP over IPv6, small frames or a mixture.
func traffic(t *testing.T, m flow.Model, six, mix bool) tx.Traffic {
	s := frame.Spec{TCP: six, Source: parse(t, "10.0.0.0/16:1024-65535"), Destination: parse(t, "198.51.100.10:80")}
	if six {
		s.Source, s.Destination = parse(t, "[2001:db8::/64]:1024-65535"), parse(t, "[2001:db8:1::10]:80")
	}
	s.Sizes = []int{s.Smallest()}
	if mix {
		s.Sizes = s.IMIX()
	}
	return tx.Traffic{Spec: s, Model: m}
}

func end(h *netlab.Host) trial.End {
	return trial.End{Affinity: affinity.Affinity{Netns: h.Namespace(), CPU: affinity.AnyCPU}, Interface: "eth0"}
}

func open(t *testing.T, s trial.Setup) *trial.Line {
	t.Helper()
	line, err := trial.Open(s)
	labtest.Must(t, err)
	t.Cleanup(func() { labtest.Must(t, line.Close()) })
	return line
}

// TestEveryFrameIsAccountedFor: with each sender, receiver and model, the requested number of
// frames is sent, and each was received or counted as dropped, which only happens if this machine
// is too busy to receive.
func TestEveryFrameIsAccountedFor(t *testing.T) {
	const frames = 10_000
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	sink := end(pair.Sink)
	models := map[string]tx.Traffic{
		"one flow":   traffic(t, flow.Model{Flows: 1}, false, false),
		"round":      traffic(t, flow.Model{Flows: 1000}, true, false),
		"uniform":    traffic(t, flow.Model{Kind: flow.Uniform, Flows: 70_000, Seed: 1}, false, true),
		"zipf":       traffic(t, flow.Model{Kind: flow.Zipf, Flows: 5000, Exponent: 1, Seed: 1}, true, true),
		"syn":        traffic(t, flow.Model{Kind: flow.SYN, Seed: 1}, true, false),
		"churn":      traffic(t, flow.Model{Kind: flow.Churn, Flows: 2000, Concurrent: 50, Packets: 7}, false, false),
		"no stamp":   unstamped(t),
		"large ones": sized(traffic(t, flow.Model{Flows: 9}, false, false), 1514),
	}
	for _, receiver := range []rx.Backend{rx.Kernel, rx.XSK} {
		for _, sender := range []tx.Backend{tx.Live, tx.XSK, tx.Packet} {
			for name, load := range models {
				t.Run(fmt.Sprintf("%v to %v, %s", sender, receiver, name), func(t *testing.T) {
					line := open(t, trial.Setup{Send: end(pair.Sender), Sender: sender, Receive: &sink, Receiver: receiver,
						Traffic: load, Follow: true, Latency: true})
					r, err := line.Run(context.Background(), trial.Load{Rate: 300_000, Limit: frames})
					labtest.Must(t, err)
					account(t, r, frames, load)
				})
			}
		}
	}
}

func unstamped(t *testing.T) tx.Traffic {
	load := traffic(t, flow.Model{Flows: 9}, false, false)
	load.Spec.TCP = true
	return sized(load, frame.MinBytes)
}

func sized(load tx.Traffic, size int) tx.Traffic {
	load.Spec.Sizes = []int{size}
	return load
}

func account(t *testing.T, r trial.Result, frames uint64, load tx.Traffic) {
	t.Helper()
	if r.Sent != frames || r.Surplus != 0 {
		t.Errorf("sent %d, want %d; surplus %d", r.Sent, frames, r.Surplus)
	}
	if dropped := r.Refused + r.Counts.Overrun; r.Lost != dropped || r.Received+r.Lost != frames {
		t.Errorf("received %d, lost %d, but the counters of drops say %d", r.Received, r.Lost, dropped)
	}
	if r.Counts.Duplicates+r.Counts.Reordered+r.Counts.Foreign != 0 {
		t.Errorf("receiver: %+v", *r.Counts)
	}
	if r.Lost == 0 && r.ReceivedBytes != r.SentBytes {
		t.Errorf("%d bytes received, %d sent", r.ReceivedBytes, r.SentBytes)
	}
	if !load.Spec.Stamped() {
		if r.Latency != nil || r.Flows != nil {
			t.Error("latency and flows without a stamp")
		}
		return
	}
	if r.Latency == nil || r.Latency.Count != int64(r.Received) || r.Latency.MinNS <= 0 || r.Latency.MaxNS > int64(labtest.WaitLimit) ||
		r.Latency.P50NS > r.Latency.P99NS || r.Latency.P99NS > r.Latency.MaxNS || r.Histogram.TotalCount() != int64(r.Received) {
		t.Errorf("latency %+v of %d frames", r.Latency, r.Received)
	}
	if r.Flows == nil || r.Lost == 0 && (r.Flows.WithLoss != 0 || r.Flows.Seen != r.Flows.Sent) || r.Flows.Sent == 0 {
		t.Errorf("flows %+v", r.Flows)
	}
}

// TestLossIsExact: a host between the ends drops each tenth frame, and exactly that loss is
// reported, in total and by flow. The next measurement on the same line starts from zero.
func TestLossIsExact(t *testing.T) {
	const every, frames, flows = 10, 20_000, 20
	labtest.NeedRoot(t)
	lab, err := netlab.New("pktgen-loss")
	labtest.Must(t, err)
	t.Cleanup(func() { labtest.Must(t, lab.Close()) })
	var hosts [3]*netlab.Host
	for i, name := range []string{"sender", "middle", "sink"} {
		hosts[i], err = lab.Host(name)
		labtest.Must(t, err)
	}
	labtest.Must(t, lab.Link(hosts[0], "eth0", hosts[1], "in", netlab.LinkOptions{}))
	labtest.Must(t, lab.Link(hosts[2], "eth0", hosts[1], "out", netlab.LinkOptions{}))
	dropEvery(t, lab, hosts[1], every)
	sink := end(hosts[2])
	line := open(t, trial.Setup{Send: end(hosts[0]), Sender: tx.XSK, Receive: &sink, Traffic: traffic(t, flow.Model{Flows: flows}, false, false), Follow: true})
	for range 2 {
		r, err := line.Run(context.Background(), trial.Load{Rate: 100_000, Limit: frames})
		labtest.Must(t, err)
		if r.Sent != frames || r.Lost != frames/every || r.LossRatio != 1.0/every || r.Received != frames-frames/every {
			t.Errorf("sent %d, received %d, lost %d (%v); want %d lost", r.Sent, r.Received, r.Lost, r.LossRatio, frames/every)
		}
		// Each tenth frame of twenty flows that take turns: two flows lose everything.
		if r.Flows.WithLoss != 2 || r.Flows.Seen != flows-2 || len(r.Flows.Worst) != 2 || r.Flows.Worst[0].Sent != frames/flows || r.Flows.Worst[0].Received != 0 {
			t.Errorf("flows %+v", r.Flows)
		}
	}
}

// dropEvery makes a host forward IPv4 frames from in to out and drop every nth.
func dropEvery(t *testing.T, lab *netlab.Lab, h *netlab.Host, every int32) {
	t.Helper()
	counter, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	labtest.Must(t, err)
	t.Cleanup(func() { counter.Close() })
	in, err := indexOf(h, "in")
	labtest.Must(t, err)
	out, err := indexOf(h, "out")
	labtest.Must(t, err)
	const drop, pass, ipv4 = 1, 2, 0x0008 // the type as it stands in a frame
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 14),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R4, asm.R2, 12, asm.Half),
		asm.JNE.Imm(asm.R4, ipv4, "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mod.Imm(asm.R1, every),
		asm.JEq.Imm(asm.R1, 0, "drop"),
		asm.Mov.Imm(asm.R1, int32(out)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}})
	labtest.Must(t, err)
	defer program.Close()
	labtest.Must(t, h.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: in, Flags: link.XDPDriverMode})
		if err == nil {
			lab.CloseLater(attached)
		}
		return err
	}))
}

// TestMaximumRate: without a rate and a limit, a run ends after its duration and counts what it has
// sent; the samples add up to the total.
func TestMaximumRate(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	sink := end(pair.Sink)
	line := open(t, trial.Setup{Send: end(pair.Sender), Sender: tx.Auto, Receive: &sink, Traffic: traffic(t, flow.Model{Flows: 100}, false, false), Follow: true, Latency: true})
	var samples []trial.Sample
	r, err := line.Run(context.Background(), trial.Load{Duration: 500 * time.Millisecond, Every: 50 * time.Millisecond,
		OnSample: func(s trial.Sample) { samples = append(samples, s) }})
	labtest.Must(t, err)
	account(t, r, r.Sent, line.Traffic())
	if r.Sender != "live" || r.Sent < 1000 || r.SpanS <= 0 || r.SentPPS <= 0 || r.ReceivedPPS <= 0 {
		t.Errorf("%s sent %d frames in %v s: %v pps", r.Sender, r.Sent, r.SpanS, r.SentPPS)
	}
	if len(samples) == 0 || len(samples) != len(r.Samples) {
		t.Fatalf("%d samples told, %d in the result", len(samples), len(r.Samples))
	}
	for i, s := range samples {
		if i > 0 && (s.Sent < samples[i-1].Sent || s.AtS <= samples[i-1].AtS) || s.Sent > r.Sent || s.Received > r.Received {
			t.Errorf("sample %d is %+v", i, s)
		}
	}
}

// TestMACsAreFound: the source is the interface's address; the destination is the next hop's, or
// without a route the receiver's.
func TestMACsAreFound(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	sink := end(pair.Sink)
	setup := trial.Setup{Send: end(pair.Sender), Receive: &sink, Traffic: traffic(t, flow.Model{Flows: 1}, false, false)}
	check := func(what string, destination frame.MAC) {
		t.Helper()
		line, err := trial.Open(setup)
		labtest.Must(t, err)
		defer line.Close()
		if spec := line.Traffic().Spec; spec.SourceMAC != pair.SendAt.MAC || spec.DestinationMAC != destination {
			t.Errorf("%s: from %x to %x", what, spec.SourceMAC, spec.DestinationMAC)
		}
	}
	check("no route", pair.SinkAt.MAC)
	labtest.Must(t, pair.Sender.Addr("eth0", "10.9.0.1/24"))
	labtest.Must(t, pair.Sink.Addr("eth0", "10.9.0.2/24"))
	labtest.Must(t, pair.Sender.Route("0.0.0.0/0", "10.9.0.2"))
	check("gateway that answers", pair.SinkAt.MAC)
	gateway := frame.MAC{2, 7, 7, 7, 7, 7}
	labtest.Must(t, pair.Sender.Neigh("eth0", "10.9.0.3", gateway[:]))
	labtest.Must(t, pair.Sender.Route("198.51.100.0/24", "10.9.0.3"))
	check("gateway that is known", gateway)
}

// indexOf returns the index of an interface.
func indexOf(h *netlab.Host, name string) (index int, err error) {
	p, err := port.Open(labtest.Affinity(h), name)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.Index, nil
}
