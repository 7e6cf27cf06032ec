package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/engine/api"
	"sluice/engine/health/policy"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// steered reports whether the XDP program gives the packet to Sluice.
func (x *explainer) steered() bool {
	d := x.Steering.DecideTuple(x.q.Protocol, x.q.From, x.q.To)
	if d.Reason == steer.NoRule {
		x.noService()
	} else {
		x.out.Steps = append(x.out.Steps, steerStep(d))
	}
	if d.Target != steer.Sluice {
		x.out.Verdict = passedText(d)
	}
	return d.Target == steer.Sluice
}

// steerStep returns the step of the XDP program: where it sends a frame, and why.
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

// noService reports that the packet belongs to no service, and lists the services with its address,
// or else the addresses of all services.
func (x *explainer) noService() {
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
		x.problem("service", "none for %s port %d: %s has %s", x.q.Protocol, x.q.To.Port(), x.q.To.Addr(), listed(here))
		return
	}
	if len(elsewhere) == 0 {
		x.problem("service", "none at %s: the configuration has no services", x.q.To.Addr())
		return
	}
	x.problem("service", "none at %s: services are at %s", x.q.To.Addr(), listed(elsewhere))
}

// maxNamed bounds the length of a list within a sentence.
const maxNamed = 12

func listed(all []string) string {
	if len(all) > maxNamed {
		return strings.Join(all[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(all)-maxNamed)
	}
	return strings.Join(all, ", ")
}

// arrival describes what keeps frames from reaching a worker.
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
			x.problem("queues", "%s has %d RX queues and Sluice uses %d: frames for a service on the others are dropped (%d so far); remove `queues` from the [[port]], or run ethtool -L %s combined %d, then restart",
				p.Name, p.Queues, p.Used, p.NoSocket, p.Name, p.Used)
		case p.NoSocket > 0:
			x.step("queues", "%s dropped %d frames for a service before their queue had a socket", p.Name, p.NoSocket)
		}
		if p.NoWorker > 0 {
			x.step("queues", "%s dropped %d frames for a service while the worker of their queue did not run (no_worker)", p.Name, p.NoWorker)
		}
	}
	for i := range x.Ports {
		if p := &x.Ports[i]; p.Exists && !p.Up {
			x.problem("queues", "%s has no link: connect it, or set it up (ip link set %s up)", p.Name, p.Name)
		} else if !p.Exists {
			x.problem("queues", "interface %s does not exist: create it, or remove its [[port]]", p.Name)
		}
	}
	return nil
}

// leftOut lists the backends that get no new connections, and those that get some although they
// fail or cannot be reached.
func (x *explainer) leftOut(id uint32) {
	svc, lines := &x.Services[id], 0
	for _, be := range x.Tables.Services[id].Backends {
		b, name := &x.Tables.Backends[be], x.Backends[be].ID
		state, _ := x.Health.Backend(name)
		why, say := "", x.problem
		switch {
		case svc.Sorry != nil && svc.Sorry.Key == name.Backend:
			if !b.Up {
				continue
			}
			why = "is the sorry server: no backend can take a new connection"
		case b.MaxConnections != 0 && x.atMost(be):
			say, why = x.step, fmt.Sprintf("left out: it has as many connections as it may (max_connections = %d)", b.MaxConnections)
		case state.Protected != "":
			why = "still gets new connections although it is down" + since(&state) + ": " + state.Protected
		case !b.Up:
			why = "left out: down" + since(&state)
		case state.Weight == 0:
			say, why = x.step, "left out: its weight is 0 (drained)"
		case state.Check.Last != "":
			why = "gets new connections although its last check failed" + x.untilWhen(svc.Key) + ": " + state.Check.Last
		case b.Unreach != counter.None:
			why = fmt.Sprintf("gets new connections, but cannot be reached: %s", x.blocked(b.Addr, b.Unreach))
		default:
			continue
		}
		if lines++; lines <= mostLines {
			say("backend", "%s %s", x.backend(be), why)
		}
	}
	if lines > mostLines {
		x.problem("backend", "and %d more are left out or cannot be reached", lines-mostLines)
	}
}

// untilWhen returns why backends with failing checks are still up.
func (x *explainer) untilWhen(key service.Key) string {
	if x.Health.Frozen(key) {
		return ", because the service's health is frozen (sluice health thaw)"
	}
	return ", until more checks fail"
}

// since returns for how long a backend has been down, and why. Without a check it returns "",
// unless no packet can be sent to the backend.
func since(b *policy.Backend) string {
	if b.Unreachable != "" {
		return " for " + time.Since(b.Since).Round(time.Second).String() + ": " + b.Unreachable
	}
	if !b.Checked {
		return ""
	}
	text := " for " + time.Since(b.Check.Since).Round(time.Second).String()
	if b.Check.Last != "" {
		text += ", last error: " + b.Check.Last
	}
	return text
}

// route describes the next hop to an address of a client or a backend.
func (x *explainer) route(stage, of string, a packet.Addr) {
	link, reason := x.Tables.Hops.Lookup(a)
	switch {
	case reason == counter.NoNeighbour && of == "client" && !x.asked(a):
		hop, _ := x.Tables.Hops.NextHop(a)
		x.step(stage, "client %s by %s: the MAC address of %s is not known: the kernel has not asked for it yet, and does when a reply is sent", a, x.port(hop.Port), hop.Addr)
		return
	case reason != counter.None:
		x.problem(stage, "none to %s %s: %s", of, a, x.blocked(a, reason))
		return
	}
	by := "on-link"
	if hop, ok := x.Tables.Hops.NextHop(a); ok && hop.Addr != a.Netip() {
		by = "gateway " + hop.Addr.String()
	}
	if link.VLAN != 0 {
		by += fmt.Sprintf(", vlan %d", link.VLAN)
	}
	x.step(stage, "%s %s by %s, %s, MAC %s, MTU %d", of, a, x.port(link.Port), by, macText(link.DMAC), link.MTU)
}

// asked reports whether the kernel has asked for the neighbour that packets to a need, and has no
// answer.
func (x *explainer) asked(a packet.Addr) bool {
	hop, ok := x.Tables.Hops.NextHop(a)
	return ok && x.Asked != nil && x.Asked(hop)
}

// blocked returns why an address cannot be reached, and how to find the cause.
func (x *explainer) blocked(a packet.Addr, reason counter.Reason) string {
	switch reason {
	case counter.NoNeighbour:
		hop, ok := x.Tables.Hops.NextHop(a)
		if !ok {
			break
		}
		protocol := "ARP"
		if hop.Addr.Is6() {
			protocol = "neighbour discovery"
		}
		if !x.asked(a) {
			return fmt.Sprintf("no_neighbour: the MAC address of %s on %s is not known, and the kernel has not asked for it yet", hop.Addr, x.port(hop.Port))
		}
		return fmt.Sprintf("no_neighbour: no answer to %s for %s on %s: check that the host is up and in that network and VLAN (ip neigh show %s)",
			protocol, hop.Addr, x.port(hop.Port), hop.Addr)
	case counter.NoRoute:
		return fmt.Sprintf("no_route: the kernel's main table has no route: add one (ip route get %s)", a)
	case counter.PortDown:
		return fmt.Sprintf("port_down: the route leads to an interface that is down or has no [[port]] (ip route get %s)", a)
	}
	return fmt.Sprintf("%s: %s", reason, reason.Text())
}

// size describes whether packets of the full size fit the packet's way.
func (x *explainer) size(p *worker.PacketRecord) {
	backend := backendOf(p)
	if backend == 0 || p.Before.Class != pipeline.ToService {
		return
	}
	be := &x.Tables.Backends[backend]
	if be.Unreach != counter.None || int(p.InPort) >= len(x.Ports) {
		return
	}
	full, overhead := int(x.Ports[p.InPort].MTU), be.Overhead()
	fits := int(be.Link.MTU) - overhead
	switch {
	case full <= fits:
		x.step("size", "packets arrive with up to %d bytes, %d are added, and %d fit %s", full, overhead, be.Link.MTU, x.port(be.Link.Port))
	case overhead > 0:
		x.problem("size", "a full packet of %d bytes becomes %d, and %d fit %s: packets of more than %d bytes are answered with ICMP 'too big', and connections hang where a firewall drops that; give %s and the network behind it an MTU of %d, or the clients or the service an MSS that fits %d",
			full, full+overhead, be.Link.MTU, x.port(be.Link.Port), fits, x.port(be.Link.Port), full+overhead, fits)
	default:
		x.problem("size", "packets arrive with up to %d bytes, and %d fit %s: longer ones are answered with ICMP 'too big', and connections hang where a firewall drops that; give both ports the same MTU",
			full, fits, x.port(be.Link.Port))
	}
}

// silence is how long a TCP connection may wait for its first reply before Explain reports it, in
// milliseconds.
const silence = 500

// returnPath describes the way of the replies, and whether there have been any.
func (x *explainer) returnPath(ctx context.Context, p *worker.PacketRecord) error {
	backend := backendOf(p)
	if backend == 0 || p.Before.Class != pipeline.ToService || p.Frame.Verdict != pipeline.Forward {
		return nil
	}
	be := &x.Tables.Backends[backend]
	if !be.Mode.RepliesThroughUs() {
		return x.oneWay(ctx, p, be)
	}
	var traffic counter.Backend
	for w := range x.Workers {
		err := x.OnWorker(ctx, w, func(p *pipeline.Processor) { traffic.Add(&p.Backends[backend]) })
		if err != nil && !errors.Is(err, worker.ErrSilent) {
			return err
		}
	}
	name, sent := x.backend(backend), counted(traffic.InPackets, "packet")
	waits := p.Before.Known && p.Before.Conn.Flags&conn.SeenReply == 0 && x.quietFor(&p.Before.Conn) >= silence
	hint := fmt.Sprintf("the backend's default route must lead through this host (on %s: ip route get %s)", be.Addr, x.q.From.Addr())
	if be.Mode == service.FullNAT {
		hint = "the backend's route to the service's `source` addresses must lead to this host"
	}
	switch {
	// much of UDP is one-way
	case x.q.Protocol == service.UDP && (waits || traffic.OutPackets == 0):
		x.step("return", "through this host; %s was sent %s, %d came back: if this flow should be answered, %s", name, sent, traffic.OutPackets, hint)
	case traffic.InPackets > 0 && traffic.OutPackets == 0:
		x.problem("return", "%s was sent %s and none came back: %s, or it does not answer at all", name, sent, hint)
	case waits:
		x.problem("return", "%s has not replied to this connection: %s, or it does not answer this client", name, hint)
	default:
		x.step("return", "through this host; %s was sent %s, %d came back", name, sent, traffic.OutPackets)
	}
	x.route("return", "client", p.After.Client)
	return nil
}

// quietFor returns how long ago the connection's last packet was, in milliseconds.
func (x *explainer) quietFor(c *conn.Conn) uint32 {
	life := x.Tables.Services[c.Service()].TimeoutsMs[c.State]
	return life - min(life, c.Expires-x.Now())
}
