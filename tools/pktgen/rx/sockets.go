package rx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/afxdp"
	"sluice/tools/pktgen/clock"
)

// sockets receives through one AF_XDP socket for each queue, all served by one thread.
type sockets struct {
	sink   *sink
	queues []*afxdp.Socket
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex // guards all below; the thread holds it for a batch at a time
	tally   tally
	latency *hdrhistogram.Histogram
	err     error
}

// look is how often the thread checks whether it has to stop.
const look = 50 * time.Millisecond

func openSockets(o Options, s *sink) (*sockets, error) {
	r := &sockets{sink: s, latency: NewHistogram(), ended: make(chan struct{})}
	r.tally.flows = make([]follow, o.Flows)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	opened := make(chan error)
	go func() {
		defer close(r.ended)
		told := false
		err := o.Port.Affinity.Do(func() error {
			if err := r.open(o); err != nil {
				return err
			}
			told = true
			opened <- nil
			r.serve(ctx)
			return nil
		})
		if !told {
			opened <- err
		}
	}()
	if err := <-opened; err != nil {
		stop()
		return nil, errors.Join(err, r.closeQueues())
	}
	return r, nil
}

func (r *sockets) open(o Options) error {
	for queue := range o.Port.RXs {
		s, err := afxdp.OpenReceiver(o.Port.Index, queue, afxdp.Auto)
		if err != nil {
			return err
		}
		r.queues = append(r.queues, s)
		if err := r.sink.objects.Sockets.Put(uint32(queue), uint32(s.FD())); err != nil {
			return fmt.Errorf("giving the XDP program the socket of queue %d: %w", queue, err)
		}
	}
	return nil
}

func (r *sockets) serve(ctx context.Context) {
	poll := make([]unix.PollFd, len(r.queues))
	take := r.take
	for ctx.Err() == nil {
		for i, q := range r.queues {
			poll[i] = unix.PollFd{Fd: int32(q.FD()), Events: unix.POLLIN}
		}
		_, err := unix.Poll(poll, int(look.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			r.fail(fmt.Errorf("waiting for frames: %w", err))
			return
		}
		r.mu.Lock()
		for i, q := range r.queues {
			if poll[i].Revents&unix.POLLIN != 0 {
				q.Receive(take)
			}
		}
		r.mu.Unlock()
	}
}

func (r *sockets) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// take is called with mu held.
func (r *sockets) take(b []byte) {
	stamp, ours := r.tally.take(b)
	if ours && r.sink.options.Latency {
		_ = r.latency.RecordValue(min(max(clock.Now()-stamp.TimeNS, 0), LongestNS)) // in range
	}
}

func (r *sockets) Backend() Backend { return XSK }

func (r *sockets) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *sockets) Begin(stream uint8) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally = tally{stream: stream, flows: make([]follow, len(r.tally.flows))}
	r.latency = NewHistogram()
	return r.sink.Begin(stream)
}

// Counts compares with the counters of the XDP program. Frames between the program and the sockets
// count as lost until they arrive.
func (r *sockets) Counts() Counts {
	came := r.sink.Counts()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.tally.counts
	c.Other = came.Other
	if arrived, taken := came.Frames+came.PlainFrames+came.Foreign, c.Frames+c.PlainFrames+c.Foreign; arrived > taken {
		c.Overrun = arrived - taken
	}
	return c
}

func (r *sockets) Latency() *hdrhistogram.Histogram {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.latency
	r.latency = NewHistogram()
	return h
}

func (r *sockets) Flows() []Flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tally.list()
}

func (r *sockets) closeQueues() error {
	var errs []error
	for _, q := range r.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// Close detaches the program first, so that no frame is redirected to a closed socket.
func (r *sockets) Close() error {
	r.stop()
	<-r.ended
	return errors.Join(r.sink.Close(), r.closeQueues())
}
