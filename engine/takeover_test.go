package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/engine/enginetest"
	"sluice/engine/health"
	"sluice/pipeline/packet/packettest"
)

// survivor is a connection of the tests of takeover.
type survivor struct {
	proto, client, vip string
	data               []byte // the frame that its packet in the middle becomes
	back               []byte // what a reply becomes; nil: replies take another way
	reply              []byte // that reply
}

// survivors are services of all modes and families, and their connections.
func survivors(perService int) (services []svc, all []*survivor) {
	for i, mode := range []string{"nat", "fullnat", "tun", "dr"} {
		for j, family := range []struct{ vip, backend, source string }{{vip4, "10.0.0.1%d", "10.0.0.2"}, {vip6, "2001:db8:a::1%d", "2001:db8:a::2"}} {
			for k, proto := range []string{"tcp", "udp"} {
				port := 8000 + 100*i + 10*j + k
				s := svc{name: fmt.Sprint(mode, port), vip: family.vip, port: fmt.Sprint(port), proto: proto, mode: mode}
				if mode == "fullnat" {
					s.extra = fmt.Sprintf("source = [%q]", family.source)
				}
				if k == 1 && mode != "fullnat" {
					s.extra = "persistence = \"5m\"\n"
				}
				for n := 1; n <= 3; n++ {
					s.backends = append(s.backends, at(fmt.Sprintf(family.backend, n), port))
				}
				services = append(services, s)
				for n := range perService {
					client := at(fmt.Sprintf("192.0.2.%d", 1+n%200), 20000+n)
					if j == 1 {
						client = at(fmt.Sprintf("2001:db8:c::%x", 1+n%200), 20000+n)
					}
					all = append(all, &survivor{proto: proto, client: client, vip: at(family.vip, port)})
				}
			}
		}
	}
	return services, all
}

// middle is a client's packet in the middle of the connection.
func (s *survivor) middle() packettest.Packet {
	if s.proto == "udp" {
		return packettest.UDP(s.client, s.vip)
	}
	return packettest.TCP(s.client, s.vip).Flags(ack)
}

// open opens the connection, and notes what becomes of its packets.
func (s *survivor) open(t *testing.T, lab *enginetest.Lab, mode string) {
	first := one(t, lab.Send(enginetest.Clients, 0, build(s.proto, s.client, s.vip).Frame()))
	if mode == "nat" || mode == "fullnat" {
		m := parse(t, first.Frame)
		reply := build(s.proto, at(m.Dst.String(), int(m.DstPort)), at(m.Src.String(), int(m.SrcPort)))
		if s.proto == "tcp" {
			one(t, lab.Send(enginetest.Backends, 0, reply.Flags(syn|ack).Frame()))
			reply = reply.Flags(ack)
		}
		s.reply = reply.Frame()
	}
	s.data = one(t, lab.Send(enginetest.Clients, 0, s.middle().Frame())).Frame
	if s.reply != nil {
		s.back = one(t, lab.Send(enginetest.Backends, 0, s.reply)).Frame
	}
}

// TestTakeover: the next process has another configuration around the same services, another order,
// and other workers. All connections go on at the backends that they had, in all modes, and with
// persistence new ones of their clients do.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, workers := range [][2]int{{1, 1}, {2, 2}, {1, 2}, {3, 1}, {2, 3}, {3, 2}} {
		t.Run(fmt.Sprintf("%d to %d workers", workers[0], workers[1]), func(t *testing.T) {
			services, all := survivors(20)
			before := enginetest.New(t, workers[0], workers[0])
			before.Start(workers[0], config(services...))
			for i, s := range all {
				s.open(t, before, services[i/20].mode)
			}

			after := enginetest.New(t, workers[1], workers[1])
			before.Close()
			after.Inherit(before.Platform)
			other := svc{name: "new", port: "9999", backends: []string{"10.0.0.19:1"}}
			reversed := []svc{other}
			for i := range services {
				reversed = append(reversed, services[len(services)-1-i])
			}
			after.Start(workers[1], config(reversed...))
			lost := map[string]int{}
			for i, s := range all {
				of := services[i/20]
				if !s.goesOn(after, of.mode) {
					lost[of.mode]++
				}
				if strings.Contains(of.extra, "persistence") && !s.sticks(after) {
					lost["persistence"]++
				}
			}
			if len(lost) > 0 {
				t.Errorf("of %d connections, %v were lost", len(all), lost)
			}
		})
	}
}

// sticks reports whether another connection of the client gets the same backend.
func (s *survivor) sticks(lab *enginetest.Lab) bool {
	client := s.client[:strings.LastIndex(s.client, ":")]
	sent := lab.Send(enginetest.Clients, 0, build(s.proto, client+":3999", s.vip).Frame())
	// the MAC address names the backend
	return len(sent) == 1 && bytes.Equal(sent[0].Frame[:6], s.data[:6])
}

// goesOn reports whether the connection's packets become what they became before.
func (s *survivor) goesOn(lab *enginetest.Lab, mode string) bool {
	sent := lab.Send(enginetest.Clients, 0, s.middle().Frame())
	if len(sent) != 1 || sent[0].Port != enginetest.Backends {
		return false
	}
	want, got := s.data, sent[0].Frame
	if mode == "tun" {
		// the outer identification is ours to choose, and the MAC address names the backend
		want, got = want[:6], got[:6]
	}
	if !bytes.Equal(want, got) {
		return false
	}
	if s.reply == nil {
		return true
	}
	back := lab.Send(enginetest.Backends, 0, s.reply)
	return len(back) == 1 && bytes.Equal(back[0].Frame, s.back)
}

// TestTakeoverOfHealth: a backend that was down gets no connection of the next process, although
// that has not checked it yet. When it has, the result counts.
func TestTakeoverOfHealth(t *testing.T) {
	t.Parallel()
	services := config(checked(nat3(), "", "rise = 1\nfall = 1"))
	down := "10.0.0.12:8080"
	before := enginetest.New(t, 1, 1)
	before.Probe = func(_ context.Context, c health.Check) error {
		if c.Target.String() == down {
			return errors.New("refused")
		}
		return nil
	}
	before.Start(1, services)
	awaitStates(t, before, "up down up")

	after := enginetest.New(t, 1, 1)
	before.Close()
	after.Inherit(before.Platform)
	answer := make(chan struct{})
	after.Probe = func(ctx context.Context, _ health.Check) error {
		select {
		case <-answer:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	after.Start(1, strings.ReplaceAll(services, "timeout = \"10ms\"", "timeout = \"10s\""))
	s := awaitStates(t, after, "up down up")
	if why := s.Backends[1].Reason; !strings.Contains(why, "refused") {
		t.Errorf("it is down because of %q", why)
	}
	for n := range 6 {
		sent := one(t, after.Send(enginetest.Clients, 0, opening(n).Frame()))
		if to := backendOf(t, sent.Frame); at(to, 8080) == down {
			t.Errorf("connection %d went to %s", n, to)
		}
	}
	close(answer)
	awaitStates(t, after, "up up up")
}

// TestTakeoverThenAnother: of connections that are at another worker than their clients' packets
// come to, those that end are followed by others from the same client port.
func TestTakeoverThenAnother(t *testing.T) {
	t.Parallel()
	services, all := survivors(20)
	before := enginetest.New(t, 1, 1)
	before.Start(1, config(services...))
	for i, s := range all {
		s.open(t, before, services[i/20].mode)
	}
	after := enginetest.New(t, 2, 2)
	before.Close()
	after.Inherit(before.Platform)
	after.Start(2, config(services...))
	for i, s := range all {
		mode := services[i/20].mode
		if s.proto != "tcp" || mode != "fullnat" {
			continue
		}
		m := parse(t, s.data)
		one(t, after.Send(enginetest.Clients, 0, s.middle().Flags(fin|ack).Frame()))
		last := build("tcp", at(m.Dst.String(), int(m.DstPort)), at(m.Src.String(), int(m.SrcPort))).Flags(fin | ack)
		one(t, after.Send(enginetest.Backends, 0, last.Frame()))
		s.open(t, after, mode)
		if !s.goesOn(after, mode) {
			t.Errorf("the next connection of %s does not go on", s.client)
		}
	}
	for i, s := range all {
		if mode := services[i/20].mode; !s.goesOn(after, mode) {
			t.Errorf("%s from %s does not go on", services[i/20].name, s.client)
		}
	}
}
