package inspect

import (
	"fmt"

	"sluice/engine/api"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// steps returns what a worker did with a packet, stage by stage.
func (n *Names) steps(p *worker.PacketRecord) []api.Step {
	if p.Before.Reason != counter.None {
		return []api.Step{{Stage: "parse", Text: p.Before.Reason.Text(), Problem: true}}
	}
	steps := []api.Step{n.direction(p), n.owner(p)}
	if p.Frame.Verdict == pipeline.HandOver {
		return steps
	}
	if s, denied := n.access(p); denied {
		return append(steps, s)
	}
	if s, wrong := n.source(p); wrong {
		return append(steps, s)
	}
	if c, ok := n.connection(p); ok {
		steps = append(steps, c)
	}
	if p.Frame.Verdict == pipeline.Forward || p.Frame.Verdict == pipeline.Reply {
		steps = append(steps, n.rewrite(p), n.egress(p))
	}
	return steps
}

// direction returns the packet's service, and where the packet goes.
func (n *Names) direction(p *worker.PacketRecord) api.Step {
	of := func(id uint32) string { return n.service(id) }
	switch known := p.After.Known; {
	case p.Before.Class == pipeline.ToService:
		return api.Step{Stage: "service", Text: "client to " + of(p.Before.Service)}
	case p.Before.Class == pipeline.ErrorToBackend:
		return api.Step{Stage: "service", Text: "ICMP error about a packet from " + of(p.Before.Service) + " to its client"}
	case p.Before.Class == pipeline.ErrorToClient && known:
		return api.Step{Stage: "service", Text: "ICMP error about a packet of " + of(p.After.Conn.Service()) + " to its backend"}
	case p.Before.Class == pipeline.ErrorToClient:
		return api.Step{Stage: "service", Text: "ICMP error about a packet of no service"}
	case p.Before.Class == pipeline.Echo:
		return api.Step{Stage: "service", Text: "ping of the address of a service"}
	case p.Before.Class == pipeline.NoService:
		return api.Step{Stage: "service", Text: "none at this port of the address"}
	case known:
		return api.Step{Stage: "service", Text: "backend of " + of(p.After.Conn.Service()) + " to its client"}
	}
	return api.Step{Stage: "service", Text: "none: treated as a backend's reply"}
}

// owner returns which worker owns the flow, and why.
func (n *Names) owner(p *worker.PacketRecord) api.Step {
	return api.Step{Stage: "worker", Text: ownerText(p.Before.Ownership, p.Before.Owner, p.Worker, p.Workers, p.Frame.Verdict == pipeline.HandOver)}
}

func ownerText(own pipeline.Ownership, owner, worker, workers int, handedOver bool) string {
	if workers == 1 {
		return "0, the only one"
	}
	if handedOver {
		worker = owner
	}
	why := map[pipeline.Ownership]string{
		pipeline.ByFlow:     "by hash of client address and port",
		pipeline.ByAddress:  "by hash of the client address, for persistence",
		pipeline.ByPort:     "by the port of the SNAT pool",
		pipeline.ByReceiver: "the one that received it",
		pipeline.ByFlowNow:  "by hash of client address and port, or the one that owned it before a reload",
	}[own]
	text := fmt.Sprintf("%d of %d, %s", worker, workers, why)
	if handedOver {
		text += ": handed over to it"
	}
	return text
}

// access returns which list denies the packet's client a new connection, or what allows it.
func (n *Names) access(p *worker.PacketRecord) (s api.Step, denied bool) {
	if p.Before.Class != pipeline.ToService {
		return s, false
	}
	now, why := n.Lists.Explain(n.Services[p.Before.Service].Key, p.Before.Meta.Src.Netip())
	denied = p.Frame.Reason == counter.AccessDenied
	if denied && !now {
		why = "denied by lists that have changed since"
	}
	return api.Step{Stage: "access", Text: why, Problem: denied}, denied
}

// connection returns the connection's state before and after the packet.
func (n *Names) connection(p *worker.PacketRecord) (api.Step, bool) {
	b, a := &p.Before, &p.After
	var text string
	switch {
	case b.Known && a.Known && b.Conn.State != a.Conn.State:
		text = fmt.Sprintf("%s -> %s, %s", b.Conn.State, a.Conn.State, n.connText(&a.Conn, p.NowMs))
	case b.Known && a.Known:
		text = fmt.Sprintf("%s, %s", a.Conn.State, n.connText(&a.Conn, p.NowMs))
	case a.Known:
		text = fmt.Sprintf("new: %s, %s", a.Conn.State, n.connText(&a.Conn, p.NowMs))
	case b.Known:
		text = fmt.Sprintf("%s, and ended", b.Conn.State)
	case untracked(p) != 0:
		text = fmt.Sprintf("none: the hash names %s", n.backend(untracked(p)))
	default:
		text = "none"
	}
	return api.Step{Stage: "connection", Text: text}, true
}

// untracked returns the backend that a client's packet was forwarded to without a connection, 0 if
// it was not.
func untracked(p *worker.PacketRecord) uint32 {
	if c := p.Before.Class; p.After.Known || p.Frame.Verdict != pipeline.Forward || c != pipeline.ToService && c != pipeline.ErrorToBackend {
		return 0
	}
	return p.Frame.Untracked()
}

// backendOf returns the backend of the packet's connection, or that it was forwarded to without
// one; 0: there is none.
func backendOf(p *worker.PacketRecord) uint32 {
	if p.After.Known {
		return p.After.Conn.Backend
	}
	return untracked(p)
}

func (n *Names) connText(c *conn.Conn, nowMs uint32) string {
	text := "backend " + n.backend(c.Backend)
	if int(c.Backend) < len(n.Backends) {
		text += " by " + n.Backends[c.Backend].Mode.String()
	}
	return text + ", expires in " + clockText(int32(c.Expires-nowMs))
}

// clockText writes milliseconds as minutes and seconds.
func clockText(ms int32) string {
	s := max(ms, 0) / 1000
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// rewrite returns the packet before and after, or the answer to it.
func (n *Names) rewrite(p *worker.PacketRecord) api.Step {
	from, to := summary(p.In), summary(p.Out)
	if p.Frame.Verdict == pipeline.Reply {
		return api.Step{Stage: "answer", Text: to}
	}
	if from == to {
		return api.Step{Stage: "rewrite", Text: from + ", only MAC addresses and TTL change"}
	}
	return api.Step{Stage: "rewrite", Text: from + " -> " + to}
}

func (n *Names) egress(p *worker.PacketRecord) api.Step {
	text := fmt.Sprintf("%s, %d bytes", n.port(p.Frame.Port), p.OutLen)
	if len(p.Out) >= packet.EthernetLen {
		text += " to " + macText([6]byte(p.Out))
	}
	return api.Step{Stage: "egress", Text: text}
}

// counted writes a number of things.
func counted[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func macText(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// verdict returns what the worker did with the packet at last, in one line.
func (n *Names) verdict(p *worker.PacketRecord) string {
	f := &p.Frame
	switch f.Verdict {
	case pipeline.Forward:
		if way := p.Before.Class; way == pipeline.FromBackend || way == pipeline.ErrorToClient {
			return "forwarded to the client by " + n.port(f.Port)
		}
		return fmt.Sprintf("forwarded to %s by %s", n.backend(p.After.Conn.Backend), n.port(f.Port))
	case pipeline.Reply:
		return "answered: " + n.answer(p)
	case pipeline.HandOver:
		return fmt.Sprintf("handed over to worker %d", f.Worker)
	case pipeline.Hold:
		return "waits for the first fragment of its packet, which has the ports"
	case pipeline.ToKernel:
		return "passed to the kernel: it belongs to no connection, and its backend may have sent it of its own accord"
	}
	if f.Reason == counter.Limited {
		return fmt.Sprintf("dropped: %s: the client or service is beyond %s", f.Reason, f.Limit())
	}
	return fmt.Sprintf("dropped: %s: %s", f.Reason, f.Reason.Text())
}

// answer returns the answer to a packet, and why there was one.
func (n *Names) answer(p *worker.PacketRecord) string {
	text := "ICMP error"
	if p.Before.Meta.Proto == uint8(service.TCP) && len(p.Out) > 0 {
		text = summary(p.Out)
	}
	switch icmp := answerICMP(p.Out); icmp {
	case "":
		switch {
		case p.Before.Known && p.Before.Conn.State == conn.Idle:
			return text + ": the connection was idle for longer than its timeout"
		case p.Before.Known && p.Before.Class == pipeline.FromBackend && p.Before.Conn.State == conn.SynRecv:
			return text + ": " + n.backend(p.Before.Conn.Backend) + " refuses the SYN, because it has another connection from the port, most likely in TIME_WAIT; it gets the SYN again"
		case p.Before.Known:
			return text + ": the connections of " + n.backend(p.Before.Conn.Backend) + " end: it is down, disabled, or its drain has timed out"
		case p.Before.Class == pipeline.FromBackend:
			return text + ": " + counter.NoConnection.Text()
		}
		return text + ": " + counter.NoConnection.Text() + ", and only a SYN opens one"
	case "echo reply":
		return "ICMP echo reply"
	case "port unreachable":
		if p.Before.Class != pipeline.ToService {
			return "ICMP port unreachable: " + counter.NoService.Text()
		}
		return "ICMP port unreachable: " + counter.NoBackend.Text()
	case "time exceeded":
		return "ICMP time exceeded: " + counter.TTLExpired.Text()
	default:
		return "ICMP " + icmp + ": " + counter.TooBig.Text()
	}
}

// answerICMP returns the name of the ICMP message in a frame, "" if it has none.
func answerICMP(frame []byte) string {
	at := packet.EthernetLen
	if len(frame) > at && (frame[12] == 0x81 || frame[12] == 0x88) {
		at += packet.TagLen
	}
	if len(frame) < at {
		return ""
	}
	ip, ok := readIP(frame[at:])
	if !ok || ip.proto != packet.ICMP && ip.proto != packet.ICMPv6 {
		return ""
	}
	return ip.icmp()
}
