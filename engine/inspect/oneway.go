package inspect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// oneWay describes the way of replies in tun and dr. They bypass Sluice, but a client that has
// acknowledged a SYN-ACK has received it, and one that has not waits for it.
func (x *explainer) oneWay(ctx context.Context, p *worker.PacketRecord, be *pipeline.Backend) error {
	x.step("return", "from the backend to the client, bypassing this host: the backend must hold %s itself (lo) and accept %s", x.q.To.Addr(), map[service.Mode]string{
		service.TUN: "packets from the tunnel", service.DR: "packets for it, but must not answer ARP for it"}[be.Mode])
	c := p.Before.Conn
	if !p.Before.Known || x.q.Protocol != service.TCP {
		x.step("return", "whether replies reach the client is not known: Sluice does not see them")
		return nil
	}
	again := false
	if opens(c.State) {
		var err error
		if c, again, err = x.watchHandshake(ctx, c); err != nil {
			return err
		}
	}
	switch name := x.backend(c.Backend); {
	case opens(c.State) && (again || x.quietFor(&c) >= silence):
		more := ""
		if again {
			more = ", and sends its SYN again"
		}
		x.problem("return", "the client has not acknowledged a SYN-ACK of %s%s: the backend sends none, or it is lost on the way to the client; %s",
			name, more, x.handshakeHint(&c, be))
	case opens(c.State):
		x.step("return", "the connection is being opened: whether replies reach the client is not known yet")
	case c.State == conn.Established:
		x.step("return", "the client has acknowledged the SYN-ACK of %s: it has reached the client; whether later replies do is not known here (on %s: ss -tin dst %s shows what is sent again)", name, be.Addr, x.q.From.Addr())
	default:
		x.step("return", "whether replies reach the client is not known: the connection is in %s", c.State)
	}
	return nil
}

// opens reports whether a connection in the state waits for the end of its handshake.
func opens(s conn.State) bool {
	return s == conn.SynRecv || s == conn.SynChallenged || s == conn.SynRepeated
}

// handshakeHint returns what a SYN-ACK of a tun or dr backend needs. A check that takes the path of
// clients' packets and succeeds leaves only the way back to the client.
func (x *explainer) handshakeHint(c *conn.Conn, be *pipeline.Backend) string {
	way := fmt.Sprintf("(ip route get %s from %s); if replies pass this host's kernel, see sluice doctor", x.q.From.Addr(), x.q.To.Addr())
	if x.pathWorks(c) {
		return fmt.Sprintf("its health check takes the same path and succeeds, so look for its route to the client %s", way)
	}
	needs := ""
	if be.Mode == service.TUN {
		needs = ", and a tunnel interface that decapsulates, with rp_filter 0"
	}
	return fmt.Sprintf("on %s there must be %s on lo, a server that listens there%s, and a route to the client %s",
		be.Addr, x.q.To.Addr(), needs, way)
}

// pathWorks reports whether the backend of a connection has answered its last check, which took the
// path of clients' packets.
func (x *explainer) pathWorks(c *conn.Conn) bool {
	id := x.Backends[c.Backend].ID
	state, ok := x.Health.Backend(id)
	s := &x.Services[c.Service()]
	i := slices.IndexFunc(s.Backends, func(b conf.Backend) bool { return b.Key == id.Backend })
	return ok && i >= 0 && s.ChecksPath(&s.Backends[i]) && state.Checked && state.Check.Up && state.Check.Last == ""
}

// handshakePause is the time between two looks at a connection.
const handshakePause = 50 * time.Millisecond

// watchHandshake follows a connection that is being opened until it has been quiet for silence, has
// opened or ended, or its client has sent again. It returns the connection as it is then.
func (x *explainer) watchHandshake(ctx context.Context, c conn.Conn) (now conn.Conn, again bool, err error) {
	for x.Conns != nil && opens(c.State) && x.quietFor(&c) < silence {
		select {
		case <-time.After(handshakePause):
		case <-ctx.Done():
			return c, false, ctx.Err()
		}
		latest, found, err := x.find(ctx, &c)
		if err != nil || !found {
			return c, false, err
		}
		if again = latest.Expires != c.Expires && opens(latest.State); again {
			return latest, true, nil
		}
		c = latest
	}
	return c, false, nil
}

// find returns the present state of a connection of the packet's client.
func (x *explainer) find(ctx context.Context, c *conn.Conn) (latest conn.Conn, found bool, err error) {
	all, err := x.Conns(ctx, x.q.From.Addr())
	for i := range all {
		e := &all[i].Entry
		if all[i].Client == packet.AddrFrom(x.q.From.Addr()) && e.Service() == c.Service() && e.ClientPort() == c.ClientPort() && e.VIPPort() == c.VIPPort() {
			return *e, true, err
		}
	}
	return conn.Conn{}, false, err
}
