package pipeline_test

import (
	"testing"

	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// TestClientPortOfRemovedBackend: a client port that had a connection to a backend that is no
// longer configured can be used again. Its first SYN goes to that backend, which may have the
// connection still, and the next one to another backend unless that one has answered.
func TestClientPortOfRemovedBackend(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.TUN, service.DR} {
		for _, answered := range []bool{false, true} {
			s := svc{mode: mode, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
			w := newWorld(t, s)
			opening := packettest.TCP(client4, web4).Flags(syn)
			old := w.in(opening).frame()[5]
			if mode == service.NAT {
				w.out(packettest.TCP("10.0.0.1"+string('0'+old-10)+":80", client4).Flags(syn | ack))
			}
			w.in(packettest.TCP(client4, web4))
			s.backends = []backend{s.backends[0], s.backends[1]}
			s.backends[old-11].gone = true
			w.configure(s)
			w.now += 1000
			o := w.in(opening)
			if w.ends(o, "forward"); o.frame()[5] != old {
				t.Errorf("%s: the first SYN goes to %d, not to %d, which may have the connection", mode, o.frame()[5], old)
			}
			want := 23 - old // the other one
			if answered && mode == service.NAT {
				w.ends(w.out(packettest.TCP("10.0.0.1"+string('0'+old-10)+":80", client4).Flags(syn|ack)), "forward")
				want = old
			}
			if mode != service.NAT {
				w.confirmRST() // the client opens another connection
			}
			w.now += 1000
			o = w.in(opening)
			if w.ends(o, "forward"); o.frame()[5] != want {
				t.Errorf("%s: the second SYN goes to %d, want %d; answered: %t", mode, o.frame()[5], want, answered)
			}
			w.sum()
		}
	}
}

// TestClientPortOfClosingConnection: beside a connection that is ending at a removed backend, the
// client port can be used at once.
func TestClientPortOfClosingConnection(t *testing.T) {
	s := svc{backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
	w := newWorld(t, s)
	opening := packettest.TCP(client4, web4).Flags(syn)
	old := w.in(opening).frame()[5]
	w.in(packettest.TCP(client4, web4))
	w.in(packettest.TCP(client4, web4).Flags(fin | ack))
	w.out(packettest.TCP("10.0.0.1"+string('0'+old-10)+":80", client4).Flags(fin | ack))
	s.backends = []backend{s.backends[0], s.backends[1]}
	s.backends[old-11].gone = true
	w.configure(s)
	o := w.in(opening)
	if w.ends(o, "forward"); o.frame()[5] == old {
		t.Error("the SYN goes to the removed backend")
	}
	w.sum()
}

// TestHandshakeOfRemovedBackend: a handshake that was interrupted by the removal of its backend,
// because the SYN-ACK was lost on its way to the client, goes on there. In tun and dr Sluice cannot
// see whether the backend answers, so that after some repetitions another one gets the SYN.
func TestHandshakeOfRemovedBackend(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.TUN, service.DR} {
		s := svc{mode: mode, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
		w := newWorld(t, s)
		opening := packettest.TCP(client4, web4).Flags(syn)
		old := w.in(opening).frame()[5]
		answer := func() {
			if mode == service.NAT {
				w.ends(w.out(packettest.TCP("10.0.0.1"+string('0'+old-10)+":80", client4).Flags(syn|ack)), "forward")
			}
		}
		answer()
		s.backends = []backend{s.backends[0], s.backends[1]}
		s.backends[old-11].gone = true
		w.configure(s)
		for range 5 {
			o := w.in(opening)
			if w.ends(o, "forward"); o.frame()[5] != old {
				t.Fatalf("%s: a repeated SYN goes to %d, not to %d, which has answered the first", mode, o.frame()[5], old)
			}
			answer()
		}
		o := w.in(opening)
		if w.ends(o, "forward"); mode != service.NAT && o.frame()[5] == old {
			t.Errorf("%s: the SYN goes to the removed backend again and again", mode)
		}
		w.sum()
	}
}
