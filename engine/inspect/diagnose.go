package inspect

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/engine/api"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

func netipPort(end netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(end.Addr(), port)
}

// steered reports whether the XDP program gives the packet to Sluice.
func (x *explainer) steered() bool {
	d := x.Steering.DecideTuple(x.q.Protocol, x.q.From, x.q.To)
	if d.Reason == steer.NoRule {
		x.nobodys()
	} else {
		x.out.Steps = append(x.out.Steps, steerStep(d))
	}
	if d.Target != steer.Sluice {
		x.out.Verdict = passedText(d)
	}
	return d.Target == steer.Sluice
}

// steerStep says where the XDP program sends a frame, and why.
func steerStep(d steer.Decision) api.Step {
	return api.Step{Stage: "steer", Text: "to " + targetText(d) + ": " + d.String()}
}

// passedText is the verdict about a frame that the XDP program does not send to Sluice.
func passedText(d steer.Decision) string {
	return "passed to " + targetText(d) + ": " + d.Reason.String()
}

func targetText(d steer.Decision) string {
	switch d.Target {
	case steer.Sluice:
		return "Sluice"
	case steer.Prober:
		return "the kernel, for the health prober"
	}
	return "the kernel"
}

// nobodys says why no service wants the packet: what there is instead.
func (x *explainer) nobodys() {
	var here, elsewhere []string
	for i := range x.Config.Services {
		s := &x.Config.Services[i]
		text := fmt.Sprintf("%s (%s %s)", s.Name, s.Key.Protocol, s.Key.Ports)
		switch {
		case s.Key.Address == x.q.To.Addr():
			here = append(here, text)
		case !slices.Contains(elsewhere, s.Key.Address.String()):
			elsewhere = append(elsewhere, s.Key.Address.String())
		}
	}
	if x.Steering.DecideTuple(x.q.Protocol, x.q.To, x.q.From).Reason == steer.ToService {
		x.step("service", "%s is a service: tun and dr backends send replies from its address, and not through this host", x.q.From)
	}
	if len(here) > 0 {
		x.problem("service", "none for %s port %d: at %s there is %s", x.q.Protocol, x.q.To.Port(), x.q.To.Addr(), listed(here))
		return
	}
	if len(elsewhere) == 0 {
		x.problem("service", "none at %s, and none anywhere: the configuration has no services", x.q.To.Addr())
		return
	}
	x.problem("service", "none at %s: services are at %s", x.q.To.Addr(), listed(elsewhere))
}

// maxNamed bounds lists within a sentence.
const maxNamed = 12

func listed(all []string) string {
	if len(all) > maxNamed {
		return strings.Join(all[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(all)-maxNamed)
	}
	return strings.Join(all, ", ")
}

// arrival tells of frames that never reach a worker.
func (x *explainer) arrival(ctx context.Context) error {
	if x.Queues == nil {
		return nil
	}
	ports, err := x.Queues(ctx)
	if err != nil {
		return err
	}
	for _, p := range ports {
		switch {
		case p.Queues > p.Used:
			x.problem("queues", "%s has %d RX queues and %d of them are Sluice's: what comes to the others for a service is dropped (%d frames so far); leave out `queues` of the [[port]], or ethtool -L %s combined %d, then restart",
				p.Name, p.Queues, p.Used, p.NoSocket, p.Name, p.Used)
		case p.NoSocket > 0:
			x.step("queues", "%s dropped %d frames for a service before their queue had a socket", p.Name, p.NoSocket)
		}
	}
	for i := range x.Ports {
		if p := &x.Ports[i]; p.Exists && !p.Up {
			x.problem("queues", "%s has no link", p.Name)
		} else if !p.Exists {
			x.problem("queues", "there is no interface %s", p.Name)
		}
	}
	return nil
}

// leftOut tells which backends get no new connections and why, and which get some and can't be
// reached.
func (x *explainer) leftOut(id uint32) {
	svc, lines := &x.Services[id], 0
	for _, be := range x.Tables.Services[id].Backends {
		b, name := &x.Tables.Backends[be], x.Backends[be].ID
		why := ""
		switch {
		case svc.Sorry != nil && svc.Sorry.Key == name.Backend:
			if !b.Up {
				continue
			}
			why = "is the sorry server: no other may take a new connection"
		case x.Protected[name] != "":
			why = "stays in the choice although it is down" + x.since(name) + ": " + x.Protected[name]
		case !b.Up:
			why = "left out: down" + x.since(name)
		case x.weight(id, name) == 0:
			why = "left out: its weight is 0 (drained)"
		case x.States[name].Last != "":
			why = "gets its share of new connections although its last check failed" + x.untilWhen(svc.Key) + ": " + x.States[name].Last
		case b.Unreach != counter.None:
			why = fmt.Sprintf("gets its share of new connections, but can't be reached: %s", x.blocked(b.Addr, b.Unreach))
		default:
			continue
		}
		if lines++; lines > mostLines {
			continue
		}
		if strings.Contains(why, "drained") {
			x.step("backend", "%s %s", x.backend(be), why)
		} else {
			x.problem("backend", "%s %s", x.backend(be), why)
		}
	}
	if lines > mostLines {
		x.problem("backend", "and %d more are left out or can't be reached", lines-mostLines)
	}
}

// untilWhen tells what keeps backends of a service up whose checks fail.
func (x *explainer) untilWhen(key service.Key) string {
	if x.Frozen[key] {
		return ", because the service's health is frozen (sluice health thaw)"
	}
	return ", until more of them fail"
}

// since tells how long a backend has been down, and why.
func (x *explainer) since(id service.BackendID) string {
	state, ok := x.States[id]
	if !ok {
		return ""
	}
	text := " for " + time.Since(state.Since).Round(time.Second).String()
	if state.Last != "" {
		text += ", last error: " + state.Last
	}
	return text
}

// weight is the backend's weight as it is now.
func (x *explainer) weight(id uint32, name service.BackendID) int {
	if w, ok := x.Weights[name]; ok {
		return w
	}
	for _, b := range x.Services[id].Backends {
		if b.Key == name.Backend {
			return b.Weight
		}
	}
	return 0
}

// way tells the next hop towards an address.
func (x *explainer) way(stage, whose string, a packet.Addr) {
	link, reason := x.Tables.Hops.Lookup(a)
	if reason != counter.None {
		x.problem(stage, "none to %s %s: %s", whose, a, x.blocked(a, reason))
		return
	}
	by := "on-link"
	if hop, ok := x.Tables.Hops.NextHop(a); ok && hop.Addr != a.Netip() {
		by = "gateway " + hop.Addr.String()
	}
	if link.VLAN != 0 {
		by += fmt.Sprintf(", vlan %d", link.VLAN)
	}
	x.step(stage, "%s %s by %s, %s, MAC %s, MTU %d", whose, a, x.port(link.Port), by, macText(link.DMAC), link.MTU)
}

// blocked says why there is no way to an address, and how to look further.
func (x *explainer) blocked(a packet.Addr, reason counter.Reason) string {
	switch reason {
	case counter.NoNeighbour:
		hop, ok := x.Tables.Hops.NextHop(a)
		if !ok {
			break
		}
		asks := "ARP"
		if hop.Addr.Is6() {
			asks = "neighbour discovery"
		}
		return fmt.Sprintf("no_neighbour: nobody answers %s for %s on %s: is the host up, in that network and VLAN? (ip neigh show %s)",
			asks, hop.Addr, x.port(hop.Port), hop.Addr)
	case counter.NoRoute:
		return fmt.Sprintf("no_route: the kernel's main table has none (ip route get %s)", a)
	case counter.PortDown:
		return fmt.Sprintf("port_down: the route leads to an interface that is down or is no [[port]] (ip route get %s)", a)
	}
	return fmt.Sprintf("%s: %s", reason, reason.Text())
}

// room tells whether full-sized packets fit where this one goes.
func (x *explainer) room(p *worker.PacketRecord) {
	if !p.After.Known || p.Before.Class != pipeline.ToService {
		return
	}
	be := &x.Tables.Backends[p.After.Conn.Backend]
	if be.Unreach != counter.None || int(p.InPort) >= len(x.Ports) {
		return
	}
	full, overhead := int(x.Ports[p.InPort].MTU), be.Overhead()
	room := int(be.Link.MTU) - overhead
	switch {
	case full <= room:
		x.step("size", "packets of up to %d bytes come in, %d are added, %d fit %s", full, overhead, be.Link.MTU, x.port(be.Link.Port))
	case overhead > 0:
		x.problem("size", "a full packet of %d bytes becomes %d, and %d fit %s: those of more than %d are answered with 'too big', and hang where a firewall drops ICMP; give %s and what is behind it an MTU of %d, or the clients or the service an MSS that fits %d",
			full, full+overhead, be.Link.MTU, x.port(be.Link.Port), room, x.port(be.Link.Port), full+overhead, room)
	default:
		x.problem("size", "packets of up to %d bytes come in, and %d fit %s: longer ones are answered with 'too big', and hang where a firewall drops ICMP; give both ports the same MTU",
			full, room, x.port(be.Link.Port))
	}
}

// silence is how long a TCP connection may wait for its first reply before that is worth a word, in
// milliseconds.
const silence = 500

// returnPath tells whether replies come back, where they have to come this way.
func (x *explainer) returnPath(ctx context.Context, p *worker.PacketRecord) error {
	if !p.After.Known || p.Before.Class != pipeline.ToService || p.Frame.Verdict != pipeline.Forward {
		return nil
	}
	c := &p.After.Conn
	be := &x.Tables.Backends[c.Backend]
	if !be.Mode.RepliesThroughUs() {
		x.step("return", "by the backend to the client, past this box: the backend must hold %s itself (lo) and accept %s", x.q.To.Addr(), map[service.Mode]string{
			service.TUN: "the tunnel's packets", service.DR: "packets for it, without answering ARP for it"}[be.Mode])
		return nil
	}
	var traffic counter.Backend
	for w := range x.Workers {
		if err := x.OnWorker(ctx, w, func(p *pipeline.Processor) { traffic.Add(&p.Backends[c.Backend]) }); err != nil {
			return err
		}
	}
	name := x.backend(c.Backend)
	waits := p.Before.Known && p.Before.Conn.Flags&conn.SeenReply == 0 && x.quietFor(&p.Before.Conn) >= silence
	hint := fmt.Sprintf("the backend's default route must lead through this box (on %s: ip route get %s)", be.Addr, x.q.From.Addr())
	if be.Mode == service.FullNAT {
		hint = "the backend's route to the service's `source` addresses must lead to this box"
	}
	switch {
	case x.q.Protocol == service.UDP && (waits || traffic.OutPackets == 0): // much of UDP is one-way
		x.step("return", "through this box; %s was sent %d packets, %d came back: if this flow should be answered, %s", name, traffic.InPackets, traffic.OutPackets, hint)
	case traffic.InPackets > 0 && traffic.OutPackets == 0:
		x.problem("return", "%s was sent %d packets and none came back: %s, or it answers nobody", name, traffic.InPackets, hint)
	case waits:
		x.problem("return", "no reply of %s to this connection has come by: %s, or it doesn't answer this client", name, hint)
	default:
		x.step("return", "through this box; %s was sent %d packets, %d came back", name, traffic.InPackets, traffic.OutPackets)
	}
	x.way("return", "client", p.After.Client)
	return nil
}

// quietFor is how long ago the connection's last packet was, in milliseconds.
func (x *explainer) quietFor(c *conn.Conn) uint32 {
	life := x.Tables.Services[c.Service()].TimeoutsMs[c.State]
	return life - min(life, c.Expires-x.Now())
}
