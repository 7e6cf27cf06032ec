package tx_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/afxdp"
	"sluice/tools/pktgen/capture"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/labtest"
	"sluice/tools/pktgen/tx"
)

var backends = []tx.Backend{tx.Live, tx.XSK, tx.Packet}

// tap returns the frames with a source MAC address that arrive at a host's eth0.
type tap struct {
	fd   int
	from frame.MAC
}

func newTap(t *testing.T, p *labtest.Pair, from frame.MAC) *tap {
	t.Helper()
	w := &tap{fd: -1, from: from}
	labtest.Must(t, p.Sink.Do(func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Ifindex: p.SinkAt.Index, Protocol: all})
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	labtest.Must(t, unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
	labtest.Must(t, unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	return w
}

// frames waits for n frames, at most for labtest.WaitLimit.
func (w *tap) frames(t *testing.T, n int) (all [][]byte) {
	t.Helper()
	b := make([]byte, 4096)
	for deadline := time.Now().Add(labtest.WaitLimit); len(all) < n && time.Now().Before(deadline); {
		length, _, err := unix.Recvfrom(w.fd, b, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		labtest.Must(t, err)
		if bytes.Equal(b[6:12], w.from[:]) {
			all = append(all, slices.Clone(b[:length]))
		}
	}
	if len(all) < n {
		t.Fatalf("%d frames came, want %d", len(all), n)
	}
	return all
}

// TestBackendsSendTheSameFrames: with every backend the frames of the traffic arrive, one by one.
func TestBackendsSendTheSameFrames(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{PeerXDP: true})
	spec := frame.Spec{SourceMAC: frame.MAC{2, 0xaa, 0, 0, 0, 1}, DestinationMAC: pair.SinkAt.MAC, Stream: 5,
		Source: parse(t, "10.0.0.0/24:1024-2047"), Destination: parse(t, "198.51.100.10:80")}
	spec.Sizes = spec.IMIX()
	model := flow.Model{Kind: flow.Zipf, Flows: 1000, Exponent: 1, Seed: 99}
	const frames = 500
	for _, backend := range backends {
		t.Run(backend.String(), func(t *testing.T) {
			w := newTap(t, pair, spec.SourceMAC)
			sender, err := tx.New(tx.Traffic{Spec: spec, Model: model}, tx.Options{Port: pair.SendAt, Backend: backend, Rate: 50_000, Limit: frames})
			labtest.Must(t, err)
			defer sender.Close()
			labtest.Must(t, sender.Send(context.Background()))
			twin, err := frame.NewBuilder(spec, model)
			labtest.Must(t, err)
			want, sum := make([]byte, frame.MaxBytes), 0
			before := int64(0)
			for i, got := range w.frames(t, frames) {
				stamp, _ := frame.Read(got)
				n := twin.Next(want, stamp.TimeNS)
				sum += n
				if !bytes.Equal(got, want[:n]) {
					t.Fatalf("frame %d is\n%x, want\n%x", i, got, want[:n])
				}
				if stamp.TimeNS < before {
					t.Fatalf("frame %d was sent at %d, before the one before it, %d", i, stamp.TimeNS, before)
				}
				before = stamp.TimeNS
			}
			c := sender.Counts()
			if c.Frames != frames || c.Bytes != uint64(sum) || c.LastNS < c.FirstNS || sender.Backend() != backend {
				t.Errorf("it says that it sent %+v by %v: there were %d frames with %d bytes", c, sender.Backend(), frames, sum)
			}
			if !slices.Equal(sender.FlowsSent(), twin.Sent()) {
				t.Error("the numbers of frames by flow differ")
			}
		})
	}
}

// TestReplaySendsTheCapture: a capture is sent as often as requested, with other addresses.
func TestReplaySendsTheCapture(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{PeerXDP: true})
	from := frame.MAC{2, 0xbb, 0, 0, 0, 1}
	file, err := capture.Read("../capture/testdata/mixed.pcapng")
	labtest.Must(t, err)
	file.SetMACs(from, pair.SinkAt.MAC)
	const loops = 3
	for _, backend := range []tx.Backend{tx.Auto, tx.XSK, tx.Packet} {
		t.Run(backend.String(), func(t *testing.T) {
			w := newTap(t, pair, from)
			sender, err := tx.NewReplay(capture.NewReplay(file, loops), tx.NewPace(20_000), tx.Options{Port: pair.SendAt, Backend: backend})
			labtest.Must(t, err)
			defer sender.Close()
			labtest.Must(t, sender.Send(context.Background()))
			for i, got := range w.frames(t, loops*file.Frames()) {
				if want := file.Frame(i % file.Frames()); !bytes.Equal(got, want) {
					t.Fatalf("frame %d is\n%x, want\n%x", i, got, want)
				}
			}
			if got := sender.Counts().Frames; got != uint64(loops*file.Frames()) {
				t.Errorf("it says that it sent %d frames", got)
			}
		})
	}
}

// endless returns traffic without an end.
func endless(t *testing.T, pair *labtest.Pair) tx.Traffic {
	return tx.Traffic{Model: flow.Model{Flows: 1}, Spec: frame.Spec{DestinationMAC: pair.SinkAt.MAC, Sizes: []int{60},
		Source: parse(t, "10.0.0.1:1024"), Destination: parse(t, "198.51.100.10:80")}}
}

// TestLinkDownIsAnError: a link that is down, or an interface that is removed, is an error, not a
// panic or a hang.
func TestLinkDownIsAnError(t *testing.T) {
	for _, backend := range backends {
		for name, break_ := range map[string]func(*netlab.Host, string) error{"down": (*netlab.Host).LinkDown, "removed": (*netlab.Host).LinkDel} {
			t.Run(backend.String()+" "+name, func(t *testing.T) {
				pair := labtest.NewPair(t, netlab.LinkOptions{PeerXDP: true})
				sender, err := tx.New(endless(t, pair), tx.Options{Port: pair.SendAt, Backend: backend, Rate: 5000})
				labtest.Must(t, err)
				defer sender.Close()
				ended := make(chan error, 1)
				go func() { ended <- sender.Send(context.Background()) }()
				awaitFrames(t, sender, 100)
				labtest.Must(t, break_(pair.Sender, "eth0"))
				select {
				case err := <-ended:
					if err == nil || !strings.Contains(err.Error(), "eth0") {
						t.Errorf("error %v, want one about eth0", err)
					}
				case <-time.After(labtest.WaitLimit):
					t.Fatal("the sender goes on")
				}
			})
		}
	}
}

func awaitFrames(t *testing.T, s tx.Sender, n uint64) {
	t.Helper()
	for deadline := time.Now().Add(labtest.WaitLimit); s.Counts().Frames < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d frames were sent", s.Counts().Frames)
		}
	}
}

// TestSendersEndWithTheirContext: senders end soon after their context, with and without a rate.
func TestSendersEndWithTheirContext(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{PeerXDP: true})
	for _, backend := range backends {
		for _, rate := range []float64{0, 10} {
			sender, err := tx.New(endless(t, pair), tx.Options{Port: pair.SendAt, Backend: backend, Rate: rate})
			labtest.Must(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- sender.Send(ctx) }()
			awaitFrames(t, sender, 1)
			cancel()
			select {
			case err := <-ended:
				labtest.Must(t, err)
			case <-time.After(labtest.WaitLimit):
				t.Fatalf("%v at rate %v goes on", backend, rate)
			}
			labtest.Must(t, sender.Close())
		}
	}
}

// TestVethWithoutPeerXDP: the kernel silently drops all frames, so the sender reports it. XSK is
// not affected.
func TestVethWithoutPeerXDP(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	send := func(backend tx.Backend) error {
		sender, err := tx.New(endless(t, pair), tx.Options{Port: pair.SendAt, Backend: backend, Limit: 500})
		labtest.Must(t, err)
		defer sender.Close()
		return sender.Send(context.Background())
	}
	if err := send(tx.Live); err == nil || !strings.Contains(err.Error(), "peer has an XDP program") {
		t.Errorf("live: error %v, want one about the peer", err)
	}
	labtest.Must(t, send(tx.XSK))
}

// TestQueueCanBeOpenedAgain: a closed socket releases its queue.
func TestQueueCanBeOpenedAgain(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	labtest.Must(t, pair.Sender.Do(func() error {
		for range 20 {
			s, err := afxdp.OpenSender(pair.SendAt.Index, 0, afxdp.Copy)
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestBusyQueueIsAnError: a queue that stays in use is an error that names the cause.
func TestBusyQueueIsAnError(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	labtest.Must(t, pair.Sender.Do(func() error {
		s, err := afxdp.OpenSender(pair.SendAt.Index, 0, afxdp.Copy)
		if err != nil {
			return err
		}
		defer s.Close()
		other, err := afxdp.OpenSender(pair.SendAt.Index, 0, afxdp.Copy)
		if err == nil {
			other.Close()
			return errors.New("two sockets on one queue")
		}
		if !strings.Contains(err.Error(), "another program has a socket on this queue") {
			return err
		}
		return nil
	}))
}

func TestOptionErrors(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{MTU: 1000})
	good := endless(t, pair)
	large := good
	large.Spec.Sizes = []int{1200}
	for want, c := range map[string]struct {
		traffic tx.Traffic
		options tx.Options
	}{
		"rate -1":                {good, tx.Options{Rate: -1}},
		"queue 7":                {good, tx.Options{Queue: 7, Backend: tx.XSK}},
		"don't fit the MTU 1000": {large, tx.Options{}},
		"0 flows":                {tx.Traffic{Spec: good.Spec}, tx.Options{}},
	} {
		c.options.Port = pair.SendAt
		if _, err := tx.New(c.traffic, c.options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	labtest.Must(t, pair.Sender.LinkDown("eth0"))
	if _, err := tx.New(good, tx.Options{Port: pair.SendAt}); err == nil || !strings.Contains(err.Error(), "is down") {
		t.Errorf("error %v, want one that says that the interface is down", err)
	}
	_, err := tx.NewReplay(nil, nil, tx.Options{Backend: tx.Live})
	if err == nil || !strings.Contains(err.Error(), "use xsk or packet") {
		t.Errorf("replay by live: error %v", err)
	}
}
