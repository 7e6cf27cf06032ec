package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
)

// stream is a flow of datagrams over one connection of the balancer, a thousand per second, each of
// which is answered.
type stream struct {
	stop           context.CancelFunc
	ended          sync.WaitGroup
	sent, answered int
	longest        time.Duration // between two answers
}

// startStream begins a stream, and returns after its first answer.
func startStream(t *testing.T, b *testbed.Bed, addr string) *stream {
	t.Helper()
	c, err := b.Client.Dial(ctxOf(t), "udp", addr)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	s := &stream{stop: stop}
	first := make(chan struct{})
	s.ended.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			if _, err := c.Write(fmt.Appendf(nil, "%d", s.sent)); err == nil {
				s.sent++
			}
		}
		time.AfterFunc(time.Second, func() { c.Close() }) // for answers on their way
	})
	s.ended.Go(func() {
		var last time.Time
		for buf := make([]byte, 1<<12); ; {
			if _, err := c.Read(buf); err != nil {
				if ctx.Err() != nil {
					return
				}
				continue // an ICMP error, perhaps
			}
			if s.answered++; s.answered == 1 {
				close(first)
			} else {
				s.longest = max(s.longest, time.Since(last))
			}
			last = time.Now()
		}
	})
	select {
	case <-first:
	case <-ctxOf(t).Done():
		t.Fatal("no datagram of the stream was answered")
	}
	return s
}

// end ends the stream.
func (s *stream) end() {
	s.stop()
	s.ended.Wait()
}
