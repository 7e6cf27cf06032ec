package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestDoubtedResets: RSTs come for all connections of a service, some of them forged. The ends that
// are asked answer as kernels do, by RST if they have no connection any more and else by ACK. Only
// the connections of the former end; a SYN in the name of the others does not move them. It covers
// all owners of connections and all queues.
func TestDoubtedResets(t *testing.T) {
	t.Parallel()
	const flows = 40
	for i, family := range fullnatFamilies {
		for j, mode := range []string{"nat", "fullnat", "tun", "dr"} {
			workers := 1 + (i+j)%3
			t.Run(fmt.Sprint(family.name, mode, workers), func(t *testing.T) {
				t.Parallel()
				s := svc{vip: family.vip, mode: mode, sched: "rr"}
				for _, host := range []int{11, 12} {
					s.backends = append(s.backends, at(fmt.Sprintf(form(family.vip), host), 80))
				}
				if mode == "fullnat" {
					s.extra = fmt.Sprintf("source = [%q]\n", family.source)
				}
				lab := enginetest.New(t, workers, workers)
				lab.Start(workers, config(s))
				web, from := at(family.vip, 80), func(n int) string { return family.client(n + 1) }
				for n := range flows {
					lab.Arrive(enginetest.Clients, packettest.TCP(from(n), web).Flags(syn).Frame())
					lab.Arrive(enginetest.Clients, packettest.TCP(from(n), web).Frame())
				}
				lab.Quiet()
				before := backendsOf(t, lab, "ESTABLISHED")
				k := kernels{lab: lab, gone: make(map[string]bool), tunnels: mode == "tun"}
				for n := range flows {
					reset := packettest.TCP(from(n), web).Flags(rst).Seq(2, 0).Payload(nil)
					if n%2 == 0 {
						reset = reset.Seq(realSeq, 0)
						k.gone[from(n)+"->"+web] = true
					}
					lab.Arrive(enginetest.Clients, reset.Frame())
					if n%4 == 1 {
						lab.Arrive(enginetest.Clients, packettest.TCP(from(n), web).Flags(syn).Payload(nil).Frame())
					}
				}
				var closed map[string]string
				lab.Await("the genuine RSTs to be confirmed", func() bool {
					k.listen(t)
					closed = backendsOf(t, lab, "CLOSE")
					return len(closed) >= flows/2
				})
				lab.Quiet()
				open := backendsOf(t, lab, "ESTABLISHED")
				for n := range flows {
					client, now := from(n), open
					if n%2 == 0 {
						now = closed
					}
					if before[client] == "" || now[client] != before[client] {
						t.Errorf("connection %d was at %q; of those that should be left: %q", n, before[client], now[client])
					}
				}
				dropped(t, lab.Stats(), "none", 0)
			})
		}
	}
}

// TestExplainUnconfirmed: explain tells of a client's FIN and of a RST while they have no effect.
func TestExplainUnconfirmed(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	from := packettest.TCP("192.0.2.7:40000", vip4+":80")
	lab.Send(enginetest.Clients, 0, from.Flags(syn).Frame(), from.Frame(), from.Flags(fin|ack).Frame())
	want := ", the client has sent FIN and the backend has not"
	if e := text(explain(t, lab, asked)); !strings.Contains(e, want+"\n") {
		t.Errorf("no %q in:\n%s", want, e)
	}
	want += ", RST probes ask whether it still exists"
	lab.Await(want, func() bool { // for three seconds
		lab.Send(enginetest.Clients, 0, from.Flags(rst).Frame())
		return strings.Contains(text(explain(t, lab, asked)), want+"\n")
	})
}

// backendsOf returns the backends of the connections in a state, by client.
func backendsOf(t *testing.T, lab *enginetest.Lab, state string) map[string]string {
	by := make(map[string]string)
	for _, c := range conns(t, lab, api.ConnQuery{}) {
		if c.State == state {
			by[c.Client] = c.Backend
		}
	}
	return by
}

// realSeq is the sequence number of genuine RSTs.
const realSeq = 1

// kernels are the kernels of clients and backends, as far as RSTs go: they believe those with
// realSeq, and answer a segment out of window by RST if they have no such connection.
type kernels struct {
	lab     *enginetest.Lab
	gone    map[string]bool // ends of connections that were reset, as "end->other end"
	tunnels bool            // what goes to backends cannot be parsed
}

// listen has the kernels take what was sent since the last call.
func (k *kernels) listen(t *testing.T) {
	t.Helper()
	for _, s := range k.lab.Collect() {
		if k.tunnels && s.Port == enginetest.Backends {
			continue
		}
		m := parse(t, s.Frame)
		mine, other := ends(m)
		seq, acked := numbers(t, s.Frame)
		answer := packettest.TCP(mine, other).Seq(7, 1000).Payload(nil)
		switch {
		case m.TCPFlags == rst && seq == realSeq:
			k.gone[mine+"->"+other] = true
		case m.TCPFlags != ack || acked != ^seq: // no RST probe
		case k.gone[mine+"->"+other]:
			k.lab.Arrive(s.Port, answer.Flags(rst).Seq(acked, 0).Frame())
		default:
			k.lab.Arrive(s.Port, answer.Frame())
		}
	}
}
