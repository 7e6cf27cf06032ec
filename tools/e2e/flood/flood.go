package flood

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/tx"
)

// Traffic is what a flood sends.
type Traffic struct {
	Target netip.AddrPort // IPv4
	UDP    bool           // datagrams; else SYNs
	Rate   float64        // packets per second
	Queues int            // of the interface, which send the same part each; 0: 1
}

// Cable is where a flood enters: an interface, and what is at the other end.
type Cable struct {
	Host   *netlab.Host
	Ifname string
	Peer   *netlab.Host
	PeerIf string
}

// Flood is a flood that has begun.
type Flood struct {
	ports   []*port.Port
	senders []tx.Sender
	stop    context.CancelFunc
	ended   sync.WaitGroup
	errs    []error // of the senders
}

// Start begins a flood. It lasts until Stop, which must be called before the lab is closed.
func Start(at Cable, t Traffic) (*Flood, error) {
	if !t.Target.Addr().Is4() || t.Rate <= 0 {
		return nil, fmt.Errorf("a flood at %v of %v packets per second: the target must be of IPv4, and the rate above 0", t.Target, t.Rate)
	}
	f := &Flood{errs: make([]error, max(t.Queues, 1))}
	if err := f.open(at, t); err != nil {
		return nil, errors.Join(err, f.close())
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	for i, s := range f.senders {
		f.ended.Go(func() { f.errs[i] = s.Send(ctx) })
	}
	return f, nil
}

func (f *Flood) open(at Cable, t Traffic) error {
	own, err := at.Host.MAC(at.Ifname)
	if err != nil {
		return err
	}
	peer, err := at.Peer.MAC(at.PeerIf)
	if err != nil {
		return err
	}
	for i := range f.errs {
		p, err := port.Open(affinity.Affinity{Netns: at.Host.Namespace(), CPU: affinity.AnyCPU}, at.Ifname)
		if err != nil {
			return err
		}
		f.ports = append(f.ports, p)
		pace := &pace{rate: t.Rate / float64(len(f.errs))}
		s, err := tx.NewReplay(newFrames(own, peer, t, uint64(i)), pace, tx.Options{Port: p, Queue: i, Backend: tx.XSK})
		if err != nil {
			return err
		}
		f.senders = append(f.senders, s)
	}
	return nil
}

// Sent returns how many packets have been sent.
func (f *Flood) Sent() (n uint64) {
	for _, s := range f.senders {
		n += s.Counts().Frames
	}
	return n
}

// Dropped returns how many packets, of any sender, did not fit in the queue of the other end of the
// interface since it was made.
func (f *Flood) Dropped() (uint64, error) {
	s, err := f.ports[0].Statistics()
	return s.TxDropped, err
}

// Stop ends the flood and waits until the last packet is sent.
func (f *Flood) Stop() error {
	f.stop()
	f.ended.Wait()
	return errors.Join(append(f.errs, f.close())...)
}

func (f *Flood) close() error {
	var errs []error
	for _, s := range f.senders {
		errs = append(errs, s.Close())
	}
	for _, p := range f.ports {
		p.Close()
	}
	return errors.Join(errs...)
}

// pace lets the packets of a tick leave together. It belongs to one goroutine.
type pace struct {
	rate    float64 // per second
	startNS int64   // 0: not begun
	sent    float64
}

const tickNS = int64(time.Millisecond)

// backlog is the part of a second that a sender makes up for after it has got no CPU.
const backlog = 0.02

// Wait implements tx.Pacer.
func (p *pace) Wait(nowNS int64) int64 {
	if p.startNS == 0 {
		p.startNS = nowNS
	}
	tick := (nowNS - p.startNS) / tickNS
	due := p.rate * float64((tick+1)*tickNS) / 1e9
	if p.sent = max(p.sent, due-p.rate*backlog); p.sent < due {
		return 0
	}
	return (tick+1)*tickNS - (nowNS - p.startNS)
}

// Took implements tx.Pacer.
func (p *pace) Took(int64) { p.sent++ }
