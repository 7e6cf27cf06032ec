package tx_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/labtest"
	"sluice/tools/pktgen/tx"
)

func parse(t *testing.T, text string) flow.Range {
	t.Helper()
	r, err := flow.ParseRange(text)
	labtest.Must(t, err)
	return r
}

// specs returns frames of both families and protocols, of one and of several sizes.
func specs(t *testing.T) (all []frame.Spec) {
	for _, six := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			s := frame.Spec{SourceMAC: frame.MAC{2, 1, 2, 3, 4, 5}, DestinationMAC: frame.MAC{2, 5, 4, 3, 2, 1}, TCP: tcp, Stream: 200,
				Source: parse(t, "10.255.255.250-11.0.0.9:65500-65535"), Destination: parse(t, "198.51.100.10-198.51.100.12:80-81")}
			if six {
				s.Source, s.Destination = parse(t, "[2001:db8::fffa-2001:db8::1:9]:65500-65535"), parse(t, "[2001:db8:1::10]:80")
			}
			one := s
			one.Sizes = []int{s.Smallest()}
			odd := s
			odd.Sizes = []int{1001}
			mix := s
			mix.Sizes = s.IMIX()
			all = append(all, one, odd, mix)
			if tcp && !six {
				bare := s
				bare.Sizes = []int{frame.MinBytes}
				all = append(all, bare)
			}
		}
	}
	return all
}

// models lists all models, with so few flows that each is sent often.
var models = []flow.Model{
	{Kind: flow.Round, Flows: 1},
	{Kind: flow.Round, Flows: 7},
	{Kind: flow.Uniform, Flows: 100, Seed: 11},
	{Kind: flow.Zipf, Flows: 100, Exponent: 1.1, Seed: 12},
	{Kind: flow.SYN, Seed: 13},
	{Kind: flow.Churn, Flows: 50, Concurrent: 9, Packets: 4},
}

// xdpTX is XDP_TX of enum xdp_action, include/uapi/linux/bpf.h.
const xdpTX = 3

// TestLiveMakesTheSameFrames compares what the program in the kernel makes, run by run, with what
// the Go side makes: every byte, the time included, which is taken from the kernel's frame. The
// frame that it works on has random bytes where it must write, as if a receiver had changed it.
func TestLiveMakesTheSameFrames(t *testing.T) {
	labtest.NeedRoot(t)
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	for _, spec := range specs(t) {
		for _, model := range models {
			t.Run(fmt.Sprintf("%v, sizes %v, %v of %d", spec, spec.Sizes, model.Kind, model.Flows), func(t *testing.T) {
				sender, err := tx.New(tx.Traffic{Spec: spec, Model: model}, tx.Options{Port: pair.SendAt, Backend: tx.Live})
				labtest.Must(t, err)
				defer sender.Close()
				twin, err := frame.NewBuilder(spec, model)
				labtest.Must(t, err)
				compareFrames(t, tx.Program(sender), spec, twin, 150)
				sent := sender.FlowsSent()
				for i, want := range twin.Sent() {
					if sent[i] != want {
						t.Fatalf("the program has sent %d frames of flow %d, want %d", sent[i], i, want)
					}
				}
			})
		}
	}
}

func compareFrames(t *testing.T, program *ebpf.Program, spec frame.Spec, twin *frame.Builder, frames int) {
	t.Helper()
	dirt := rand.NewChaCha8([32]byte{1})
	headers := spec.Smallest() - 18
	if !spec.Stamped() {
		headers = 54
	}
	want := make([]byte, spec.Largest())
	for i := range frames {
		in := make([]byte, spec.Largest())
		dirt.Read(in[:headers])
		run := &ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+64)}
		action, err := program.Run(run)
		labtest.Must(t, err)
		stamp, _ := frame.Read(run.DataOut)
		n := twin.Next(want, stamp.TimeNS)
		if action != xdpTX || !bytes.Equal(run.DataOut, want[:n]) {
			t.Fatalf("frame %d, action %d, is\n%x, want\n%x", i, action, run.DataOut, want[:n])
		}
	}
}
