package testbed

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Stream is a flow of datagrams over one connection of the balancer, each of which is answered.
type Stream struct {
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu     sync.Mutex // guards what follows
	counts StreamCounts
	last   time.Time // of the last answer
}

// StreamCounts is what a Stream came to.
type StreamCounts struct {
	Sent, Answered int
	Errors         int           // ICMP errors
	Longest        time.Duration // between two answers, or from the last one until now
}

// Stream begins a flow from the client, one datagram in each period, and returns after its first
// answer.
func (b *Bed) Stream(ctx context.Context, addr string, period time.Duration) (*Stream, error) {
	c, err := b.Client.Dial(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	during, stop := context.WithCancel(context.Background())
	s := &Stream{stop: stop}
	first := make(chan struct{})
	s.ended.Go(func() { s.send(during, c, period) })
	s.ended.Go(func() { s.receive(during, c, first) })
	select {
	case <-first:
		return s, nil
	case <-ctx.Done():
		s.End()
		return nil, fmt.Errorf("no datagram to %s was answered: %w", addr, ctx.Err())
	}
}

// answerTime is how long answers are awaited after the last datagram.
const answerTime = time.Second

func (s *Stream) send(ctx context.Context, c net.Conn, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; <-tick.C {
		if _, err := c.Write(fmt.Appendf(nil, "%d", n)); err == nil {
			n++
			s.note(func(c *StreamCounts) { c.Sent++ })
		}
	}
	time.AfterFunc(answerTime, func() { c.Close() })
}

func (s *Stream) receive(ctx context.Context, c net.Conn, first chan struct{}) {
	for buf := make([]byte, 1<<12); ; {
		if _, err := c.Read(buf); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.note(func(c *StreamCounts) { c.Errors++ })
			continue
		}
		s.note(func(c *StreamCounts) {
			if c.Answered++; c.Answered == 1 {
				close(first)
			} else {
				c.Longest = max(c.Longest, time.Since(s.last))
			}
			s.last = time.Now()
		})
	}
}

func (s *Stream) note(f func(*StreamCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.counts)
}

// Counts returns what the stream came to so far, and begins Longest again.
func (s *Stream) Counts() StreamCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Longest = max(c.Longest, time.Since(s.last))
	s.counts.Longest = 0
	return c
}

// End ends the stream, waits for answers on their way, and returns what it came to.
func (s *Stream) End() StreamCounts {
	s.stop()
	s.ended.Wait()
	return s.counts
}
