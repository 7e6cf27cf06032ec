package pipeline_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

// timeWaits is a backend that closes first and keeps each connection in TIME_WAIT for a minute: by
// local port of fullnat, the time of its end. It refuses a SYN from there by an ACK, and an RST
// ends what it keeps, as in Linux.
type timeWaits map[netip.AddrPort]uint32

// refuse has the backend refuse the SYN of a connection, and returns from where the worker sends
// RST, and the SYN again.
func (l *fullnatLab) refuse(from netip.AddrPort) (reset, again netip.AddrPort) {
	l.t.Helper()
	f, out := l.send(packettest.TCP(fnBackend, from.String()).Flags(packet.ACK).Seq(7, 77))
	if f.Verdict != pipeline.Reply {
		l.t.Fatalf("the ACK that refuses the SYN from %s: verdict %d, %v", from, f.Verdict, f.Reason)
	}
	reset = source(l.t, out)
	made := []pipeline.Frame{{Mem: make([]byte, packettest.ChunkSize)}, {Mem: make([]byte, packettest.ChunkSize)}}
	if n := l.proc.MakeRSTProbes(made, 0); n != 1 || made[0].Verdict != pipeline.Forward {
		l.t.Fatalf("%d packets are sent when the SYN from %s is refused", n, from)
	}
	return reset, source(l.t, made[0].Mem[made[0].Start:made[0].End])
}

// tcp sends a segment of the client or the backend, which must be forwarded, and returns where it
// comes from.
func (l *fullnatLab) tcp(src, dst string, flags uint8) netip.AddrPort {
	l.t.Helper()
	f, out := l.send(packettest.TCP(src, dst).Flags(flags))
	if f.Verdict != pipeline.Forward {
		l.t.Fatalf("%s -> %s, flags %#x: %v", src, dst, flags, f.Reason)
	}
	return source(l.t, out)
}

// connect opens and closes a connection and returns how often the backend refused its SYN.
func (b timeWaits) connect(l *fullnatLab, client string) (refused int) {
	l.t.Helper()
	from := l.tcp(client, fnVIP, packet.SYN)
	for ; b.keeps(from, l.nowMs); refused++ {
		if refused == 4 {
			l.t.Fatalf("the SYN of %s was refused four times, at last from %s", client, from)
		}
		reset, again := l.refuse(from)
		delete(b, reset)
		if again != from {
			l.t.Fatalf("the SYN of %s comes from %s, and again from %s", client, from, again)
		}
	}
	l.tcp(fnBackend, from.String(), packet.SYN|packet.ACK)
	l.tcp(client, fnVIP, packet.ACK)
	l.tcp(fnBackend, from.String(), packet.FIN|packet.ACK)
	l.tcp(client, fnVIP, packet.FIN|packet.ACK)
	b[from] = l.nowMs + 60_000
	return refused
}

// keeps reports whether the backend has a connection from there.
func (b timeWaits) keeps(from netip.AddrPort, nowMs uint32) bool {
	end, closed := b[from]
	return closed && int32(end-nowMs) > 0
}

// shortTimeWait has the entries of closed connections live for a second only, so that their ports
// are free while the backend keeps the connections.
func shortTimeWait(first, last uint16) func(*fullnatSetup) {
	return func(s *fullnatSetup) {
		s.services[1].TimeoutsMs[conn.TimeWait] = 1000
		s.ports = portSet(first, last)
	}
}

// run makes connections for seconds, so many in a minute, and returns how often SYNs were refused:
// in all, and those of one connection at most.
func (b timeWaits) run(l *fullnatLab, perMinute, seconds int) (sum, most int) {
	l.t.Helper()
	begin := l.nowMs
	for i := range perMinute * seconds / 60 {
		now := begin + uint32(i*60_000/perMinute)
		l.proc.Housekeep(l.tables, now, now-l.nowMs, 1<<20)
		l.nowMs = now
		refused := b.connect(l, fnClient(i))
		sum, most = sum+refused, max(most, refused)
	}
	return sum, most
}

// fnPorts is the number of ports that the tests below give the source.
const fnPorts = 1024

// TestPortsInTimeWait makes nearly as many connections in a minute as half of the ports, for
// minutes and across restarts. The backend refuses no SYN, except for the first after a restart
// that begins among the ports that it keeps.
func TestPortsInTimeWait(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	restarts, refusing := max(steps(16), 4), 0
	backend, nowMs := make(timeWaits), uint32(1<<32-100_000)
	for restart := range restarts {
		l := newFullnatLab(t, 0, 1, 4096, shortTimeWait(20_000, 20_000+fnPorts-1), func(s *fullnatSetup) {
			s.start = 20_000 + uint16(random.IntN(fnPorts))
		})
		l.nowMs = nowMs
		sum, _ := backend.run(l, fnPorts/2-4, 200)
		if sum > 1 || restart == 0 && sum > 0 {
			t.Errorf("restart %d: %d SYNs were refused", restart, sum)
		}
		if n := l.proc.Packets.PortReusedEarly; n != 0 {
			t.Errorf("restart %d: %d ports were reused early", restart, n)
		}
		refusing += sum
		nowMs = l.nowMs
	}
	if refusing == 0 || refusing == restarts {
		t.Errorf("the backend refused SYNs after %d of %d restarts", refusing, restarts)
	}
}

// TestPortsReusedEarly makes so many connections that ports are reused within a minute: each takes
// at most one more round trip, and they are counted.
func TestPortsReusedEarly(t *testing.T) {
	l := newFullnatLab(t, 0, 1, 4096, shortTimeWait(20_000, 20_000+fnPorts-1))
	minutes := max(steps(4), 2)
	sum, most := make(timeWaits).run(l, 2*fnPorts, 60*minutes)
	n, want := l.proc.Packets.PortReusedEarly, (2*minutes-1)*fnPorts
	if most != 1 || n != uint64(want) || sum != want {
		t.Errorf("%d SYNs were refused, at most %d of a connection; %d ports were reused early, want %d", sum, most, n, want)
	}
}

// TestLateSYN: a SYN that was sent again arrives before the first copy, which waited for a worker.
// The backend has answered by SYN-ACK, and answers the older copy by an ACK without SYN. The
// connection keeps its port when a third copy comes, for the client knows the SYN-ACK.
func TestLateSYN(t *testing.T) {
	l := newFullnatLab(t, 0, 1, 4096)
	client := fnClient(1)
	first := l.tcp(client, fnVIP, packet.SYN)
	l.tcp(fnBackend, first.String(), packet.SYN|packet.ACK)
	l.tcp(client, fnVIP, packet.SYN)
	l.tcp(fnBackend, first.String(), packet.ACK)
	if from := l.tcp(client, fnVIP, packet.SYN); from != first {
		t.Errorf("the third copy comes from %s, not from %s", from, first)
	}
	if from := l.tcp(client, fnVIP, packet.ACK); from != first {
		t.Errorf("the client's ACK comes from %s, not from %s", from, first)
	}
}

// TestRefusedSYN follows connections that the backend refuses twice, so that they are left to the
// client, to the far port that they get, once.
func TestRefusedSYN(t *testing.T) {
	l := newFullnatLab(t, 0, 1, 4096)
	for i := range 50 {
		client := fnClient(i)
		first := l.tcp(client, fnVIP, packet.SYN)
		if again := l.tcp(client, fnVIP, packet.SYN); again != first {
			t.Fatalf("an unanswered SYN that is sent again comes from %s, not %s", again, first)
		}
		if x, _ := l.dryRun(packettest.TCP(fnBackend, first.String()).Flags(packet.ACK).Seq(7, 77)); x.Frame.Verdict != pipeline.Reply {
			t.Fatalf("the ACK that refuses a SYN, in a dry run: verdict %d, %v", x.Frame.Verdict, x.Frame.Reason)
		}
		l.refuse(first)
		l.tcp(fnBackend, first.String(), packet.ACK)
		if from := l.tcp(client, fnVIP, packet.RST); from != first {
			t.Fatalf("the RST comes from %s, not %s", from, first)
		}
		_, predicted := l.dryRun(packettest.TCP(client, fnVIP).Flags(packet.SYN))
		second := l.tcp(client, fnVIP, packet.SYN)
		if from := source(t, predicted); from != second {
			t.Fatalf("the repeated SYN comes from %s, but from %s in a dry run", second, from)
		}
		if apart := int(second.Port()) - int(first.Port()); apart > -4000 && apart < 4000 {
			t.Fatalf("connection %d gets port %d after %d", i, second.Port(), first.Port())
		}
		if f, _ := l.send(packettest.TCP(fnBackend, first.String()).Flags(packet.SYN | packet.ACK)); f.Verdict == pipeline.Forward {
			t.Fatalf("a reply to the former port %s is forwarded", first)
		}
		l.tcp(fnBackend, second.String(), packet.ACK) // refused again
		if from := l.tcp(client, fnVIP, packet.SYN); from != second {
			t.Fatalf("the SYN comes from a third port: %s after %s", from, second)
		}
		l.tcp(fnBackend, second.String(), packet.SYN|packet.ACK)
		if from := l.tcp(client, fnVIP, packet.ACK); from != second {
			t.Fatalf("the client's ACK comes from %s, not %s", from, second)
		}
		l.tcp(fnBackend, second.String(), packet.ACK)
	}
	if v4, _ := l.proc.Entries(); v4 != 50 {
		t.Errorf("%d entries of 50 connections", v4)
	}
	for _, c := range l.states() {
		if c != conn.Established {
			t.Errorf("a connection is in state %s", c)
		}
	}
}

// states returns the states of all connections.
func (l *fullnatLab) states() (all []conn.State) {
	l.proc.Table(4).Scan(0, 1<<30, func(c *conn.Conn) { all = append(all, c.State) })
	return all
}

// TestPortsOfEndedConnections makes more connections than there are ports while the table keeps
// those that have ended, as with the default timeouts: each new one gets the port that ended first.
// Only connections that have not ended keep theirs.
func TestPortsOfEndedConnections(t *testing.T) {
	const ports, open = 256, 12
	l := newFullnatLab(t, 0, 1, 4096, func(s *fullnatSetup) { s.ports = portSet(20_000, 20_000+ports-1) })
	backend := make(timeWaits)
	held := make(map[netip.AddrPort]bool)
	for i := range open {
		held[l.tcp(fnClient(1000+i), fnVIP, packet.SYN)] = true
	}
	l.proc.ProveAll() // so that they do not give way
	for i := range 3 * ports {
		syn := packettest.TCP(fnClient(i), fnVIP).Flags(packet.SYN)
		if predicted, out := l.dryRun(syn); predicted.Frame.Verdict != pipeline.Forward || held[source(t, out)] {
			t.Fatalf("connection %d in a dry run: %v", i, predicted.Frame.Reason)
		}
		if refused := backend.connect(l, fnClient(i)); refused > 1 {
			t.Fatalf("the SYN of connection %d was refused %d times", i, refused)
		}
		l.nowMs += 5
	}
	if v4, _ := l.proc.Entries(); v4 != ports {
		t.Errorf("%d entries with %d ports", v4, ports)
	}
	if n, want := l.proc.Packets.PortReusedEarly, uint64(3*ports-(ports-open)); n < want {
		t.Errorf("%d ports were reused early, want %d", n, want)
	}
	for from := range held {
		if f, _ := l.send(packettest.TCP(fnBackend, from.String()).Flags(packet.SYN | packet.ACK)); f.Verdict != pipeline.Forward {
			t.Fatalf("the reply to %s, which has not ended: %v", from, f.Reason)
		}
	}
}
