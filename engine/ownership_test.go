package engine_test

import (
	"fmt"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestModesFollowEachOther gives a service's backends one mode after the other, with flows that were opened in each.
// Whoever owns them, flows go on as they were opened, and both directions of new ones meet.
func TestModesFollowEachOther(t *testing.T) {
	const flows = 100
	real := map[string]bool{"nat": true, "fullnat": true} // the backend sees its own address, and replies by us
	for _, proto := range []string{"tcp", "udp"} {
		for _, modes := range [][]string{
			{"fullnat", "nat", "fullnat", "dr"}, {"nat", "fullnat", "nat"}, {"dr", "nat", "dr"}, {"dr", "fullnat", "nat"},
		} {
			t.Run(fmt.Sprint(proto, modes), func(t *testing.T) {
				lab := enginetest.New(t, 2, 2)
				lab.RSS = card(2)
				configured := func(mode string) string {
					s := svc{mode: mode, proto: proto, backends: []string{"10.0.0.11:80"}}
					if mode == "fullnat" {
						s.extra = `source = ["10.0.0.2"]`
					}
					return config(s)
				}
				lab.Start(2, configured(modes[0]))
				for now := range modes {
					if now > 0 {
						if _, err := lab.Reload(configured(modes[now])); err != nil {
							t.Fatal(err)
						}
					}
					for then := range now + 1 {
						for n := then * flows; n < (then+1)*flows; n++ {
							p := build(proto, client(n), vip4+":80")
							if then < now {
								p = p.Flags(ack)
							}
							lab.Arrive(enginetest.Clients, p.Frame())
						}
						lab.Quiet()
						sent := lab.Collect()
						for _, s := range sent {
							m := parse(t, s.Frame)
							if mode := modes[then]; (m.Dst.String() == vip4) == real[mode] || (m.Src.String() == "10.0.0.2") != (mode == "fullnat") {
								t.Fatalf("%v: opened as %s, now from %s to %s", modes[:now+1], mode, m.Src, m.Dst)
							}
							if real[modes[then]] {
								answer := build(proto, at(m.Dst.String(), 80), at(m.Src.String(), int(m.SrcPort)))
								if proto == "tcp" {
									answer = answer.Flags(syn | ack)
								}
								lab.Arrive(enginetest.Backends, answer.Frame())
							}
						}
						if len(sent) != flows {
							t.Errorf("%v: %d of %d flows opened as %s go on", modes[:now+1], len(sent), flows, modes[then])
						}
						lab.Quiet()
						if answered := len(lab.Collect()); real[modes[then]] && answered != flows {
							t.Errorf("%v: %d of %d flows opened as %s were answered", modes[:now+1], answered, flows, modes[then])
						}
					}
				}
			})
		}
	}
}

// TestErrorFindsFlowOfBefore: an ICMP error about a flow finds it when its service has come to be owned otherwise.
func TestErrorFindsFlowOfBefore(t *testing.T) {
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(svc{mode: "dr", backends: []string{"10.0.0.11:80"}}))
	for n := range 20 {
		lab.Send(enginetest.Clients, n%2, opening(n).Frame())
	}
	if _, err := lab.Reload(config(svc{mode: "nat", backends: []string{"10.0.0.11:80"}})); err != nil {
		t.Fatal(err)
	}
	for n := 20; n < 40; n++ {
		lab.Send(enginetest.Clients, n%2, opening(n).Frame())
	}
	for n := range 40 {
		in := packettest.ICMP("203.0.113.99", vip4, 3, 4, 1400, packettest.TCP(vip4+":80", client(n)).IP())
		one(t, lab.Send(enginetest.Clients, n%2, in.Frame()))
	}
}
