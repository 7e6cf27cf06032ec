package pipeline

import (
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// answersPerSecond is the maximum rate of answers by one worker, and the maximum burst. Linux
// limits its ICMP errors likewise (net.ipv4.icmp_msgs_per_sec).
const answersPerSecond = 1000

// mayAnswer reports whether an answer may be sent now, and counts it.
func (p *Processor) mayAnswer() bool {
	return p.answers.Allow(p.now, answersPerSecond, answersPerSecond)
}

// reject handles a TCP packet that belongs to no connection and may not open one. It is answered
// with RST, as by the kernel of a host that has the VIP (RFC 9293, 3.10.7.1).
func (p *Processor) reject(f *Frame, s *Service) {
	if !p.tryNextWorker(f, s) {
		p.refuse(f)
	}
}

// refuse answers a TCP segment of no connection with RST. If it is a RST itself, or the limit is
// reached, it is dropped.
func (p *Processor) refuse(f *Frame) {
	m := &f.meta
	if m.TCPFlags&packet.RST != 0 || !p.mayAnswer() {
		f.drop(counter.NoConnection)
		return
	}
	rewrite.TCPReset(f.Mem, m)
	p.sendBack(f)
}

// answer answers a packet with the ICMP error for the reason. If the limit is reached, or the
// packet must not be answered, it drops the packet for the reason.
func (p *Processor) answer(f *Frame, r counter.Reason) {
	m := &f.meta
	if m.ICMPError || !p.mayAnswer() {
		f.drop(r)
		return
	}
	switch r {
	case counter.NoBackend, counter.NoService:
		rewrite.Unreachable(f.Mem, m)
	case counter.TTLExpired:
		rewrite.TimeExceeded(f.Mem, m)
	}
	p.sendBack(f)
}

// noService answers a packet to a port of a VIP at which no service is, as the kernel of a host
// that has the VIP does for UDP. Segments with RST are not answered.
func (p *Processor) noService(f *Frame) {
	if f.meta.TCPFlags&packet.RST != 0 {
		f.drop(counter.NoService)
		return
	}
	p.answer(f, counter.NoService)
}

// echo answers an ICMP echo request to a VIP. There is no limit, as in Linux: an answer is not
// longer than the request, and goes to where it came from.
func (p *Processor) echo(f *Frame) {
	if p.martian(f) {
		return
	}
	if !p.t.answersEcho(f.meta.Dst) {
		f.drop(counter.EchoRefused)
		return
	}
	rewrite.EchoReply(f.Mem, &f.meta)
	p.sendBack(f)
}

// tooBig answers a packet that is longer than the MTU of its next hop with that MTU (RFC 1191, RFC
// 8201). IPv4 packets that may be fragmented are dropped: Sluice does not fragment.
func (p *Processor) tooBig(f *Frame, mtu uint16) {
	m := &f.meta
	if m.ICMPError || !packet.DontFragment(f.Mem, m) || !p.mayAnswer() {
		f.drop(counter.TooBig)
		return
	}
	rewrite.TooBig(f.Mem, m, mtu)
	p.sendBack(f)
}

// sendBack sends the frame, which is an answer now, to the neighbour that it came from.
func (p *Processor) sendBack(f *Frame) {
	m := &f.meta
	f.Start = rewrite.SwapLink(f.Mem, m)
	f.End = int(m.End)
	f.Verdict = Reply
}
