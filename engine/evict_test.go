package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

// numbers reads sequence and acknowledgment number of a TCP frame.
func numbers(t *testing.T, frame []byte) (seq, ack uint32) {
	t.Helper()
	m := parse(t, frame)
	tcp := frame[m.L4-packettest.Headroom:]
	return binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
}

// hosts are the kernels of clients and backends, as far as idle TCP connections go: they answer a
// segment out of window with their own numbers, and believe a reset that fits.
type hosts struct {
	lab   *enginetest.Lab
	reset map[string]bool // ends of reset connections, as "from->to"
}

// useSeq is the sequence number of what use sends.
const useSeq = 8

// use has a client send a segment that is passed on.
func (h *hosts) use(client, vip string) {
	h.lab.Arrive(enginetest.Clients, packettest.TCP(client, vip).Seq(useSeq, uint32(packettest.Port(client))*1000).Payload(nil).Frame())
}

// ends names the two ends of a frame's flow, as the one who gets it sees them.
func ends(m packet.Meta) (mine, other string) {
	return at(m.Dst.String(), int(m.DstPort)), at(m.Src.String(), int(m.SrcPort))
}

// listen has all hosts take what was sent since the last call.
func (h *hosts) listen(t *testing.T) {
	t.Helper()
	for _, s := range h.lab.Collect() {
		m := parse(t, s.Frame)
		mine, other := ends(m)
		seq, acked := numbers(t, s.Frame)
		expected := uint32(m.DstPort) * 1000 // what the end expects next
		switch {
		case m.TCPFlags == rst:
			if seq != expected {
				t.Fatalf("%s gets a reset numbered %d, and expects %d", mine, seq, expected)
			}
			h.reset[mine+"->"+other] = true
		case m.TCPFlags == ack && acked == ^seq:
			h.lab.Arrive(s.Port, packettest.TCP(mine, other).Seq(7, expected).Payload(nil).Frame())
		case m.TCPFlags == ack && seq == useSeq:
		default:
			t.Fatalf("neither an RST probe nor a reset:\n%s", packettest.Decode(s.Frame))
		}
	}
}

// connect opens flows 0 to n-1 and establishes them; it tells the backend of each client's end.
func connect(t *testing.T, lab *enginetest.Lab, clientOf func(int) string, vip string, n int) map[string]string {
	t.Helper()
	behind := make(map[string]string)
	for i := range n {
		client := clientOf(i)
		lab.Arrive(enginetest.Clients, packettest.TCP(client, vip).Flags(syn).Frame())
		lab.Quiet()
		opened := one(t, lab.Collect())
		backend, peer := ends(parse(t, opened.Frame))
		behind[client] = backend
		lab.Arrive(enginetest.Backends, packettest.TCP(backend, peer).Flags(syn|ack).Frame())
		lab.Arrive(enginetest.Clients, packettest.TCP(client, vip).Frame())
		lab.Quiet()
		lab.Collect()
	}
	return behind
}

// TestIdleAreReset checks that both ends of all connections of a failed backend are reset, although
// none of them sends anything by itself, and that no other end is reset. It covers all owners of
// connections and all queues.
func TestIdleAreReset(t *testing.T) {
	t.Parallel()
	const flows = 90
	for i, family := range fullnatFamilies {
		for _, mode := range []string{"nat", "fullnat"} {
			for _, layout := range []struct{ workers, front, back int }{{3, 3, 1}, {1, 1, 1}, {2, 2, 2}, {3, 1, 3}} {
				t.Run(fmt.Sprint(family.name, mode, layout), func(t *testing.T) {
					if i > 0 || mode != "fullnat" || layout.back != 1 || layout.workers == 1 {
						slow(t)
					}
					s := svc{vip: family.vip, mode: mode, sched: "rr"}
					for _, host := range []int{11, 12, 13} {
						s.backends = append(s.backends, at(fmt.Sprintf(form(family.vip), host), 8080))
					}
					extra := ""
					if mode == "fullnat" {
						extra = fmt.Sprintf("source = [%q]\n", family.source)
					}
					lab, fake := enginetest.New(t, layout.front, layout.back), &fakeBackends{}
					lab.Probe = fake.probe
					lab.Start(layout.workers, config(checked(s, extra, "")))
					behind := connect(t, lab, family.client, at(family.vip, 80), flows)
					dead := fmt.Sprintf(form(family.vip), 12)
					fake.setFailing(dead)
					awaitStates(t, lab, "up down up")
					h, want := &hosts{lab, make(map[string]bool)}, 2*spread(behind)[at(dead, 8080)]
					lab.Await("all ends to be reset", func() bool { h.listen(t); return len(h.reset) == want })
					for client, backend := range behind {
						if told := h.reset[client+"->"+at(family.vip, 80)]; told != (backend == at(dead, 8080)) {
							t.Errorf("%s of %s was reset: %v", client, backend, told)
						}
					}
					lab.Quiet()
					n := lab.Stats()
					dropped(t, n, "none", 0)
					if want == 0 || n.Replied < uint64(want) || n.Originated < uint64(want) {
						t.Errorf("%d ends, %d RST probes, %d answers", want, n.Originated, n.Replied)
					}
				})
			}
		}
	}
}

// form is how backends' addresses are made in the family of a service's.
func form(vip string) string {
	if vip == vip6 {
		return "2001:db8:a::%d"
	}
	return "10.0.0.%d"
}

// TestKeptAreNotReset: on_down = "keep" leaves all connections as they are.
func TestKeptAreNotReset(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), `on_down = "keep"`, ""))
	before := openAll(t, lab, 0, 30)
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	sameAs(t, before, goOn(t, lab, 0, 30), "")
	if n := lab.Stats(); n.Originated != 0 || n.Replied != 0 {
		t.Errorf("%+v", n)
	}
}

// TestExplainEvicted: explain tells of the reset, and why there is one.
func TestExplainEvicted(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), "", ""))
	openAll(t, lab, 0, 3)
	behind := goOn(t, lab, 0, 3)
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	for client, backend := range behind {
		want := "forwarded to " + backend
		if backend == "10.0.0.12:8080" {
			want = "[R] 40 bytes: the connections of 10.0.0.12:8080 end"
		}
		if e := explain(t, lab, fmt.Sprintf("tcp %s %s:80", client, vip4)); !strings.Contains(e.Verdict, want) {
			t.Errorf("%s: %s", client, e.Verdict)
		}
	}
}

// TestManyIdle: more connections than frames, and than one turn sends RST probes for: all are reset
// in the end, and all frames are free again.
func TestManyIdle(t *testing.T) {
	slow(t)
	const flows = 4000
	lab, fake := enginetest.New(t, 2, 2), &fakeBackends{}
	lab.Probe = fake.probe
	lab.Start(2, config(checked(nat3(), "", "")))
	openAll(t, lab, 0, flows)
	dead := 0
	for _, backend := range goOn(t, lab, 0, flows) {
		if backend == "10.0.0.12:8080" {
			dead++
		}
	}
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	h := &hosts{lab, make(map[string]bool)}
	lab.Await("all ends to be reset", func() bool { h.listen(t); return len(h.reset) == 2*dead })
	conns, err := lab.Engine.Conns(context.Background(), api.ConnQuery{Backend: "10.0.0.12"})
	if err != nil || dead == 0 || len(conns) != dead {
		t.Errorf("%d connections of %d, %v", len(conns), dead, err)
	}
	for _, c := range conns {
		if c.State != "CLOSE" {
			t.Errorf("%+v", c)
		}
	}
	if b := list(t, lab)[0].Backends[1]; b.Active != 0 {
		t.Errorf("%+v", b)
	}
}
