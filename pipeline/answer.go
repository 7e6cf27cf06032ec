package pipeline

import (
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// limiter is a token bucket over millisecond ticks: answersPerSecond answers in the long run.
type limiter struct {
	tokens uint32 // in thousandths of an answer
	last   uint32 // tick of the last refill
}

// answersPerSecond is how many answers of our own one worker gives per second; Linux limits its
// ICMP errors likewise (net.ipv4.icmp_msgs_per_sec). Saved-up answers are at most one second's.
const answersPerSecond = 1000

func (l *limiter) allow(nowMs uint32) bool {
	if passed := nowMs - l.last; passed > 0 {
		l.last = nowMs
		l.tokens = min(l.tokens+min(passed, 1000)*answersPerSecond, 1000*answersPerSecond)
	}
	if l.tokens < 1000 {
		return false
	}
	l.tokens -= 1000
	return true
}

// reject ends a TCP packet that belongs to no connection and may not open one. Where the kernel of
// a host that owns the VIP would answer it with RST (RFC 9293, 3.10.7.1), so do we.
func (p *Processor) reject(f *Frame, s *Service) {
	m := &f.meta
	if p.tryNextWorker(f, s) {
		return
	}
	if m.TCPFlags&packet.RST != 0 || !p.answers.allow(p.now) {
		f.drop(counter.NoConnection)
		return
	}
	rewrite.TCPReset(f.Mem, m)
	p.sendBack(f)
}

// answer ends a packet with the ICMP error that the reason asks for. When answers are limited, or
// the packet must not be answered, it is dropped under that reason.
func (p *Processor) answer(f *Frame, r counter.Reason) {
	m := &f.meta
	if m.ICMPError || !p.answers.allow(p.now) {
		f.drop(r)
		return
	}
	switch r {
	case counter.NoBackend:
		rewrite.Unreachable(f.Mem, m)
	case counter.TTLExpired:
		rewrite.TimeExceeded(f.Mem, m)
	}
	p.sendBack(f)
}

// tooBig ends a packet that is longer than what lies ahead can carry: the sender learns the size
// that fits (RFC 1191, RFC 8201). IPv4 packets that may be fragmented are dropped: we don't
// fragment.
func (p *Processor) tooBig(f *Frame, mtu uint16) {
	m := &f.meta
	if m.ICMPError || !packet.DontFragment(f.Mem, m) || !p.answers.allow(p.now) {
		f.drop(counter.TooBig)
		return
	}
	rewrite.TooBig(f.Mem, m, mtu)
	p.sendBack(f)
}

// sendBack returns the frame, now an answer, to the neighbour that it came from.
func (p *Processor) sendBack(f *Frame) {
	m := &f.meta
	f.Start = rewrite.SwapLink(f.Mem, m)
	f.End = int(m.End)
	f.Verdict = Reply
}
