package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// forged are rows of segments that a stranger sends with the addresses and ports of a connection.
var forged = map[string][]layers.TCP{
	"RST":           {{RST: true}},
	"RST ACK":       {{RST: true, ACK: true}},
	"RST, SYN":      {{RST: true}, {SYN: true}},
	"FIN":           {{FIN: true, ACK: true}},
	"FIN, RST, SYN": {{FIN: true, ACK: true}, {RST: true}, {SYN: true}},
	"SYN":           {{SYN: true}},
}

// blindLab is a daemon and the ends of its services: each has a port of its own.
type blindLab struct {
	*testing.T
	b        *testbed.Bed
	d        *testbed.Daemon
	paths    []testbed.Path
	cfg      testbed.Config
	accepted []chan net.Conn // by path
}

func newBlindLab(t *testing.T, paths ...testbed.Path) *blindLab {
	l := &blindLab{T: t, b: bed(t), cfg: config(t), paths: paths}
	for i, p := range paths {
		s := p.Web()
		s.Port = 9200 + i
		for k := range s.Backends {
			if s.Backends[k].Port != 0 {
				s.Backends[k].Port = 9200 + i
			}
		}
		l.cfg.Services = append(l.cfg.Services, s)
		l.accepted = append(l.accepted, make(chan net.Conn, 16))
		for _, be := range l.b.Backends {
			at := be.Addr(p.Backend)
			if p.Mode == "tun" || p.Mode == "dr" {
				at = p.Address()
			}
			l.accept(be.Host, netip.AddrPortFrom(at, uint16(9200+i)).String(), l.accepted[i])
		}
	}
	l.d = start(t, l.b, l.cfg)
	return l
}

// accept puts the connections that a host accepts into a channel.
func (l *blindLab) accept(host *netlab.Host, at string, into chan<- net.Conn) {
	listener, err := host.Listen("tcp", at)
	must(l.T, err)
	l.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			into <- c
		}
	}()
}

// open opens a connection of a path and returns both ends. local may be empty.
func (l *blindLab) open(t *testing.T, path int, local string) (client, server *net.TCPConn) {
	t.Helper()
	to := l.cfg.Services[path].Endpoint()
	var c net.Conn
	var err error
	if local == "" {
		c, err = l.b.Client.Dial(ctxOf(t), "tcp", to)
	} else {
		c, err = l.b.Client.DialFrom(ctxOf(t), "tcp", local, to)
	}
	must(t, err)
	t.Cleanup(func() { c.Close() })
	select {
	case s := <-l.accepted[path]:
		t.Cleanup(func() { s.Close() })
		for _, end := range []net.Conn{c, s} {
			must(t, end.SetDeadline(time.Now().Add(2*time.Minute)))
		}
		client, server = c.(*net.TCPConn), s.(*net.TCPConn)
	case <-time.After(waitLimit):
		t.Fatal("no backend has accepted the connection")
	}
	l.talk(t, client, server)
	return client, server
}

// talk sends some bytes in both directions.
func (l *blindLab) talk(t *testing.T, client, server net.Conn) {
	t.Helper()
	exchange(t, client, server)
	exchange(t, server, client)
}

// conn returns the connection of a client, nil if there is none.
func (l *blindLab) conn(ctx context.Context, client net.Conn) (*api.Conn, error) {
	all, err := l.d.API.Conns(ctx, api.ConnQuery{Client: client.LocalAddr().String()})
	for i := range all { // the client may have the same port for another service
		if all[i].Virtual == client.RemoteAddr().String() {
			return &all[i], err
		}
	}
	return nil, err
}

// wantState waits until the connection of a client is in one of some states; "" is none.
func (l *blindLab) wantState(t *testing.T, client net.Conn, states ...string) (c *api.Conn) {
	t.Helper()
	poll(t, fmt.Sprintf("the connection to be %q", states), func() (err error) {
		c, err = l.conn(ctxOf(t), client)
		switch {
		case err != nil:
			return err
		case c == nil && slices.Contains(states, ""), c != nil && slices.Contains(states, c.State):
			return nil
		}
		return fmt.Errorf("it is %+v", c)
	})
	return c
}

// forge sends segments as if from a client, with random numbers.
func (l *blindLab) forge(w *wire, client net.Conn, segments []layers.TCP) {
	from, to := netip.MustParseAddrPort(client.LocalAddr().String()), netip.MustParseAddrPort(client.RemoteAddr().String())
	for _, s := range segments {
		w.send(w.tcp(from, to, func(h *layers.TCP) {
			h.Seq, h.Ack = rand.Uint32(), rand.Uint32()
			h.RST, h.SYN, h.FIN, h.ACK = s.RST, s.SYN, s.FIN, s.ACK
		}, ""))
	}
}

// TestBlind: segments with the addresses and ports of a connection, but not its numbers, neither
// end nor move nor shorten it, between real kernels. In tun and dr a FIN shortens it until the
// client sends.
func TestBlind(t *testing.T) {
	l := newBlindLab(t, append(slices.Clone(through), testbed.Paths[1], testbed.Paths[2], testbed.Paths[4], testbed.Paths[5])...)
	w := frontWire(t, l.b)
	type victim struct {
		name           string
		client, server net.Conn
		backend        string
		oneWay, fin    bool
	}
	var victims []victim
	for i, p := range l.paths {
		for name, segments := range forged {
			client, server := l.open(t, i, "")
			victims = append(victims, victim{p.String() + ", " + name, client, server, l.wantState(t, client, "ESTABLISHED").Backend,
				p.Mode == "tun" || p.Mode == "dr", segments[0].FIN})
			l.forge(w, client, segments)
		}
	}
	// The rows of one RST without a SYN get three RST probes each. A connection is doubted for a
	// second after the last.
	want := uint64(3 * 2 * len(l.paths))
	poll(t, "the RST probes", func() error {
		now, err := l.d.API.Stats(ctxOf(t))
		if err == nil && now.Originated < want {
			err = fmt.Errorf("there are %d, want %d", now.Originated, want)
		}
		return err
	})
	for _, v := range victims {
		if v.oneWay && v.fin {
			exchange(t, v.client, v.server)
		}
		c, err := l.conn(ctxOf(t), v.client)
		must(t, err)
		if c == nil || c.State != "ESTABLISHED" || c.ExpiresS < 800 || c.Backend != v.backend {
			t.Errorf("%s: the connection is %+v, was at %s", v.name, c, v.backend)
			continue
		}
		l.talk(t, v.client, v.server)
		if !v.oneWay && !v.fin { // the end is as usual
			must(t, v.client.Close())
			must(t, v.server.Close())
			l.wantState(t, v.client, "TIME_WAIT")
		}
	}
}

// TestRealReset: a real RST, of the client or the backend, closes the connection within seconds,
// and the client's port can be used again at once; so does a real FIN of both.
func TestRealReset(t *testing.T) {
	l := newBlindLab(t, append(slices.Clone(through), testbed.Paths[1], testbed.Paths[2])...)
	for i, p := range l.paths {
		t.Run(p.String(), func(t *testing.T) {
			oneWay := p.Mode == "tun" || p.Mode == "dr"
			client, _ := l.open(t, i, "")
			must(t, client.SetLinger(0))
			began := time.Now()
			must(t, client.Close())
			l.wantState(t, client, "CLOSE", "")
			t.Logf("CLOSE %s after the client's RST", time.Since(began).Round(time.Millisecond))

			// again, and the port is used again at once
			client, _ = l.open(t, i, "")
			must(t, client.SetLinger(0))
			must(t, client.Close())
			again, server := l.open(t, i, client.LocalAddr().String())
			l.wantState(t, again, "ESTABLISHED")
			if !oneWay {
				must(t, server.SetLinger(0))
				began = time.Now()
				must(t, server.Close())
				l.wantState(t, again, "CLOSE", "") // it is removed after ten seconds
				t.Logf("CLOSE %s after the backend's RST", time.Since(began).Round(time.Millisecond))
			}

			client, server = l.open(t, i, "")
			must(t, client.Close())
			must(t, server.Close())
			if oneWay {
				l.wantState(t, client, "FIN_WAIT")
			} else {
				l.wantState(t, client, "TIME_WAIT")
			}
		})
	}
}
