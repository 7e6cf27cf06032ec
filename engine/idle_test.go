package engine_test

import (
	"fmt"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestIdleBeyondTimeout checks that both ends of connections that were idle for their timeout are
// reset, although they send nothing by themselves, and that the connections are counted as
// inactive.
func TestIdleBeyondTimeout(t *testing.T) {
	slow(t)
	const flows = 40
	for i, family := range fullnatFamilies {
		for workers, mode := range map[int]string{1 + i: "nat", 2 - i: "fullnat"} {
			t.Run(fmt.Sprint(family.name, mode, workers), func(t *testing.T) {
				t.Parallel() // a sweep takes 8 s
				s := svc{vip: family.vip, mode: mode, backends: []string{at(fmt.Sprintf(form(family.vip), 11), 8080)}}
				if mode == "fullnat" {
					s.extra = fmt.Sprintf("source = [%q]\n", family.source)
				}
				lab := enginetest.New(t, workers, workers)
				lab.Start(workers, config(s))
				behind := connect(t, lab, family.client, at(family.vip, 80), flows)
				s.extra += "[service.timeouts]\ntcp_established = \"1s\"\n"
				if _, err := lab.Reload(config(s)); err != nil {
					t.Fatal(err)
				}
				h := &hosts{lab, make(map[string]bool)}
				for client := range behind { // from now on the new timeout counts
					h.use(client, at(family.vip, 80))
				}
				lab.Await("all ends to be reset", func() bool { h.listen(t); return len(h.reset) == 2*flows })
				if b := list(t, lab)[0].Backends[0]; b.Active != 0 {
					t.Errorf("%+v", b)
				}
				lab.Quiet()
				dropped(t, lab.Stats(), "none", 0)
			})
		}
	}
}

// TestIdleSilent checks that with on_idle = "silent" an expired connection is removed without
// notice. A late segment of its backend is answered with RST.
func TestIdleSilent(t *testing.T) {
	slow(t)
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}, extra: "on_idle = \"silent\"\n[service.timeouts]\ntcp_established = \"1s\"\n"}))
	lab.Send(enginetest.Clients, 0, packettest.TCP(client4, vip4+":80").Flags(syn).Frame(), packettest.TCP(client4, vip4+":80").Frame())
	lab.Await("the connection to be removed", func() bool { return list(t, lab)[0].Backends[0].Active == 0 })
	h := &hosts{lab, make(map[string]bool)}
	lab.Arrive(enginetest.Backends, packettest.TCP("10.0.0.11:8080", client4).Seq(7, 8080*1000).Frame())
	lab.Quiet()
	h.listen(t)
	if n := lab.Stats(); len(h.reset) != 1 || n.Replied != 1 || n.Originated != 0 {
		t.Errorf("%v, %+v", h.reset, n)
	}
}
