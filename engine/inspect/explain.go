package inspect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"sluice/engine/api"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// explainer is the state of one call of Explain.
type explainer struct {
	*Snapshot
	q     api.Tuple
	out   api.Explanation
	frame pipeline.Frame
	in    []byte
	owner int
	run   *pipeline.DryRun
}

// step adds a step to the explanation.
func (x *explainer) step(stage, format string, args ...any) {
	x.out.Steps = append(x.out.Steps, api.Step{Stage: stage, Text: fmt.Sprintf(format, args...)})
}

// problem adds a step that is, or may be, why the packet does not arrive.
func (x *explainer) problem(stage, format string, args ...any) {
	x.step(stage, format, args...)
	x.out.Steps[len(x.out.Steps)-1].Problem = true
}

// Explain returns what happens to the packet with the ends q. It asks the workers for what only
// they know, and changes nothing.
func (s *Snapshot) Explain(ctx context.Context, q api.Tuple) (api.Explanation, error) {
	x := &explainer{Snapshot: s, q: q, out: api.Explanation{Tuple: q.String()}}
	if !x.steered() {
		return x.out, nil
	}
	if err := x.arrival(ctx); err != nil {
		return x.out, err
	}
	if err := x.findPort(ctx); err != nil {
		return x.out, err
	}
	if err := x.dryRun(ctx); errors.Is(err, worker.ErrSilent) {
		x.out.Verdict = fmt.Sprintf("not known: worker %d, which would process the packet, does not answer", x.owner)
		return x.out, nil
	} else if err != nil {
		return x.out, err
	}
	p := x.record()
	if p.Before.Reason == counter.None {
		x.describe(p)
		if err := x.returnPath(ctx, p); err != nil {
			return x.out, err
		}
	} else {
		x.problem("parse", "%s", p.Before.Reason.Text())
	}
	x.finish(p)
	return x.out, nil
}

// assumedPort is the client's port if the tuple has none.
const assumedPort = 40000

// findPort chooses the client's port if the tuple has none: the port of one of its connections that
// have no reply, unless a later one has, or else a port that it does not use.
func (x *explainer) findPort(ctx context.Context) error {
	if x.q.From.Port() != 0 {
		return nil
	}
	id := x.Tables.Service(packet.AddrFrom(x.q.To.Addr()), x.q.To.Port(), uint8(x.q.Protocol))
	if id == 0 {
		return fmt.Errorf("%s has no port, and %s is not a service: add the port that the packet comes from, like %s",
			x.q.From.Addr(), x.q.To, netip.AddrPortFrom(x.q.From.Addr(), assumedPort))
	}
	used, silent := make(map[uint16]bool), []uint16(nil)
	last, answered := uint32(math.MaxUint32), uint32(math.MaxUint32) // how long ago
	if x.Conns != nil {
		conns, err := x.Conns(ctx, x.q.From.Addr())
		if err != nil {
			return err
		}
		for _, f := range conns {
			if f.Entry.Service() != id || f.Entry.VIPPort() != x.q.To.Port() {
				continue
			}
			used[f.Entry.ClientPort()] = true
			if quiet := x.quietFor(&f.Entry); hasNoReply(&f.Entry) {
				silent, last = append(silent, f.Entry.ClientPort()), min(last, quiet)
			} else {
				answered = min(answered, quiet)
			}
		}
		if answered < last { // what kept replies away does so no more
			silent = nil
		}
	}
	port := uint16(assumedPort)
	for used[port] && len(used) <= math.MaxUint16 { // a client that uses all ports keeps this one
		port++
	}
	switch {
	case len(used) == 0:
		x.step("client", "has no connection to the service: port %d is assumed", port)
	case len(silent) > 0:
		port = silent[len(silent)-1]
		x.step("client", "has %s to the service, %d of them without a reply: one of those is assumed", counted(len(used), "connection"), len(silent))
	default:
		x.step("client", "has %s to the service: a new one is assumed, from port %d", counted(len(used), "connection"), port)
	}
	x.q.From = netip.AddrPortFrom(x.q.From.Addr(), port)
	return nil
}

// hasNoReply reports whether no reply to the connection's client is known. In tun and dr that is
// one that is still being opened.
func hasNoReply(c *conn.Conn) bool {
	return c.Flags&(conn.SeenReply|conn.NoOutput) == 0 || c.Flags&conn.NoOutput != 0 && opens(c.State)
}

// dryRun makes the packet, finds the worker that owns its connection or would own it, and runs the
// packet through its pipeline without effect.
func (x *explainer) dryRun(ctx context.Context) error {
	inPort, smac, dmac := x.ingress()
	make := func(middle bool) (err error) {
		x.frame, err = testPacket(x.q, smac, dmac, middle)
		x.frame.Port = inPort
		x.in = slices.Clone(x.frame.Mem[x.frame.Start:x.frame.End])
		return err
	}
	if err := make(false); err != nil {
		return err
	}
	var first *pipeline.Observation // of the first worker that answers
	known := false
	for w := range x.Workers {
		var seen pipeline.Observation
		err := x.OnWorker(ctx, w, func(p *pipeline.Processor) { seen = p.Observe(x.frame, x.Tables, x.Now()) })
		if errors.Is(err, worker.ErrSilent) {
			x.problem("worker", "worker %d does not answer: it may have the packet's connection", w)
			continue
		} else if err != nil {
			return err
		}
		if first == nil {
			first = &seen
		}
		if seen.Known && !known {
			x.owner, known = w, true
		}
	}
	if first == nil {
		return worker.ErrSilent
	}
	if !known {
		x.owner = first.Owner
	}
	if first.Class == pipeline.FromBackend || known {
		if err := make(true); err != nil {
			return err
		}
	}
	x.run = pipeline.NewDryRun(x.owner, x.Workers, x.Seed, x.Tables, x.Loads)
	return x.OnWorker(ctx, x.owner, func(p *pipeline.Processor) { p.DryRun(x.run, x.frame, x.Tables, x.Now()) })
}

// ingress returns the port that the packet would arrive at, and its MAC addresses.
func (x *explainer) ingress() (port uint8, smac, dmac [6]byte) {
	smac = [6]byte{2, 0, 0, 0, 0, 1}
	src := packet.AddrFrom(x.q.From.Addr())
	if hop, ok := x.Tables.Hops.NextHop(src); ok {
		port = hop.Port
	}
	if link, reason := x.Tables.Hops.Lookup(src); reason == counter.None {
		smac = link.DMAC
	}
	if int(port) < len(x.Ports) {
		dmac = x.Ports[port].MAC
	}
	return port, smac, dmac
}

// record returns the dry run as a worker would record it.
func (x *explainer) record() *worker.PacketRecord {
	f := x.run.Frame
	p := &worker.PacketRecord{
		Before: x.run.Before, After: x.run.After, Frame: f, InPort: x.frame.Port,
		In: x.in, Worker: x.owner, Workers: x.Workers, NowMs: x.Now(),
	}
	if f.Verdict == pipeline.Forward || f.Verdict == pipeline.Reply {
		p.Out = f.Mem[f.Start:f.End]
		p.OutLen = len(p.Out)
	}
	return p
}

// describe adds the steps from the service on.
func (x *explainer) describe(p *worker.PacketRecord) {
	x.out.Steps = append(x.out.Steps, x.direction(p))
	if id := x.serviceID(p); id != 0 {
		x.out.Service = x.Services[id].Name
	}
	x.out.Steps = append(x.out.Steps, x.ownerStep(p))
	if p.Before.Known || p.Before.Class != pipeline.ToService {
		x.existing(p)
	} else {
		x.choice(p)
	}
	if backend := backendOf(p); backend != 0 {
		x.out.Backend = x.backend(backend)
	}
	x.nextHop(p)
	if p.Frame.Verdict == pipeline.Forward || p.Frame.Verdict == pipeline.Reply {
		x.out.Steps = append(x.out.Steps, x.rewrite(p), x.egress(p))
		x.out.Frame = p.Out
	}
	x.size(p)
}

// serviceID returns the number of the packet's service, 0 if it has none.
func (x *explainer) serviceID(p *worker.PacketRecord) uint32 {
	if p.After.Known {
		return p.After.Conn.Service()
	}
	return p.Before.Service
}

// ownerStep returns which worker owns the connection.
func (x *explainer) ownerStep(p *worker.PacketRecord) api.Step {
	if p.Before.Ownership == pipeline.ByReceiver && !p.Before.Known && x.Workers > 1 {
		return api.Step{Stage: "worker", Text: fmt.Sprintf("any of %d: the one that receives the packet; worker %d is assumed", x.Workers, x.owner)}
	}
	return api.Step{Stage: "worker", Text: ownerText(p.Before.Ownership, p.Before.Owner, x.owner, x.Workers, false)}
}

// existing describes the connection that the packet belongs to.
func (x *explainer) existing(p *worker.PacketRecord) {
	if !p.Before.Known {
		x.problem("connection", "none from %s to backend %s: it was never opened, has expired, or does not pass through this host", x.q.To, x.q.From)
		return
	}
	c := &p.Before.Conn
	named := x.named(c, &p.Before)
	x.out.Connection = &named
	replies := ", replies seen"
	switch {
	case c.Flags&conn.NoOutput != 0:
		replies = ", replies bypass this host"
	case c.Flags&conn.SeenReply == 0:
		replies = ", no reply seen"
	}
	x.step("connection", "%s, %s%s%s", c.State, x.connText(c, x.Now()), replies, unconfirmed(c))
	if state, ok := x.Health.Backend(x.Backends[c.Backend].ID); ok && (state.Protected != "" || !x.Tables.Backends[c.Backend].Up) {
		x.problem("backend", "%s is down%s", x.backend(c.Backend), since(&state))
	}
}

// unconfirmed names what one end has sent, and what has no effect on the connection before the
// other end confirms it.
func unconfirmed(c *conn.Conn) (text string) {
	if c.State >= conn.Idle {
		return ""
	}
	if c.Flags&conn.ClientFIN != 0 && c.State == conn.Established {
		text = ", the client has sent FIN and the backend has not"
	}
	if c.Flags&conn.Doubted != 0 {
		text += ", RST probes ask whether it still exists"
	}
	return text
}

func (x *explainer) named(c *conn.Conn, s *pipeline.Observation) api.Conn {
	return x.Conn(worker.Conn{Entry: *c, Client: s.Client, LeftMs: int32(c.Expires - x.Now())}, x.owner)
}

// choice describes how the scheduler chooses a backend for a new connection, and which ones it
// leaves out.
func (x *explainer) choice(p *worker.PacketRecord) {
	id := p.Before.Service
	svc := &x.Tables.Services[id]
	opened := p.After.Known || p.Frame.Reason != counter.None
	x.step("connection", "none yet")
	if s, wrong := x.source(p); wrong {
		x.out.Steps = append(x.out.Steps, s)
		return
	}
	access, denied := x.access(p)
	if access.Text != "" {
		x.out.Steps = append(x.out.Steps, access)
	}
	if denied {
		return
	}
	x.limits(id)
	switch {
	case x.run.Bound && !x.run.Picked:
		x.step("schedule", "persistence binds the client to %s", x.backend(x.run.Template.Backend))
	case x.run.Picked:
		name := func(i int) string { return x.backend(svc.Backends[i]) }
		why := sched.Explain(svc.Scheduler, x.run.Sched, x.run.Loads, x.run.Key(), name)
		chosen := "no backend may take a new connection"
		if backend := backendOf(p); backend != 0 {
			chosen = "takes " + x.backend(backend)
		}
		if untracked(p) != 0 {
			chosen += ", without a connection"
		}
		x.step("schedule", "%s: %s -> %s", x.Services[id].Scheduler, why.Rule, chosen)
		x.figures(svc, why.Figures)
	case !opened:
		x.step("schedule", "not needed: the packet opens no connection")
	}
	x.leftOut(id)
}

// mostLines bounds how many backends are listed one by one.
const mostLines = 16

// figures lists the figures that the scheduler compared.
func (x *explainer) figures(svc *pipeline.Service, figures []string) {
	var all []string
	for i, f := range figures {
		if f != "" && len(all) < mostLines {
			all = append(all, x.backend(svc.Backends[i])+" "+f)
		}
	}
	if len(all) > 0 {
		x.step("figures", "%s", strings.Join(all, "; "))
	}
}

// nextHop describes the way to the packet's new destination.
func (x *explainer) nextHop(p *worker.PacketRecord) {
	backend := backendOf(p)
	if backend == 0 {
		return
	}
	if w := p.Before.Class; w == pipeline.FromBackend || w == pipeline.ErrorToClient {
		x.route("next hop", "client", p.After.Client)
		return
	}
	be := &x.Tables.Backends[backend]
	x.route("next hop", "backend", be.Addr)
	if be.Mode == service.TUN && be.Unreach == counter.NoRoute && x.reachable(be.Addr) {
		x.problem("next hop", "no port has an address of the family of %s, which the tunnel needs as its source: add one to the port", be.Addr)
	}
}

func (x *explainer) reachable(a packet.Addr) bool {
	_, reason := x.Tables.Hops.Lookup(a)
	return reason == counter.None
}

// finish sets the verdict, and whether the packet is forwarded without a problem.
func (x *explainer) finish(p *worker.PacketRecord) {
	x.out.Verdict = x.verdict(p)
	x.out.OK = p.Frame.Verdict == pipeline.Forward
	for i := range x.out.Steps {
		x.out.OK = x.out.OK && !x.out.Steps[i].Problem
	}
	if p.Frame.Verdict == pipeline.Forward && !x.out.OK {
		x.out.Verdict += ", but see the marked lines"
	}
}
