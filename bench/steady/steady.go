// Package steady runs the whole engine on a port in memory, where a packet of an established
// connection arrives every so many nanoseconds, and measures how long packets take from their time
// of arrival to transmission: whatever delays the worker delays them.
//
// A Stream has one worker on a CPU of its own, which polls, and the control plane on the others, as
// the daemon has it. It needs neither root nor a network.
package steady

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/conf"
	"sluice/engine"
	"sluice/engine/api"
	"sluice/pipeline/packet/packettest"
	"sluice/tools/pause"
)

// Options configures a Stream.
type Options struct {
	CPU                int // of the worker
	Services, Backends int // of each service
	Flows              int
	Rate               int // packets per second
}

// Stream is a running engine with its packets. It belongs to one goroutine.
type Stream struct {
	Options
	port    *port
	engine  *engine.Engine
	texts   [2][]byte // of the configuration; they differ in a weight of each service
	reloads int
}

// Start starts an engine, and waits until all flows are established.
func Start(ctx context.Context, o Options) (*Stream, error) {
	s := &Stream{Options: o, port: &port{queue: queue{every: int64(time.Second) / int64(o.Rate)}}}
	for i := range o.Flows {
		s.port.frames = append(s.port.frames, s.frame(i))
	}
	for i := range s.texts {
		s.texts[i] = s.text(1 + i)
	}
	cfg, _, err := s.load()
	if err != nil {
		return nil, err
	}
	if s.engine, err = engine.Start(ctx, cfg, engine.Options{Load: s.load, Parse: parse, Platform: s.port}); err != nil {
		return nil, err
	}
	r, err := s.Measure(ctx, func() error { return pause.For(ctx, 2*time.Duration(o.Flows)*time.Second/time.Duration(o.Rate)) })
	if err == nil && r.Packets == 0 {
		err = errors.New("the engine transmits nothing")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close stops the engine.
func (s *Stream) Close() error { return s.engine.Close() }

func parse(name string, text []byte) (*conf.Config, []conf.Problem, error) {
	return conf.Parse(name, text, nil)
}

// load returns the configuration that is next in turn.
func (s *Stream) load() (*conf.Config, []conf.Problem, error) {
	return parse("steady.toml", s.texts[s.reloads%len(s.texts)])
}

const firstPort = 1024

func vip(service int) string { return fmt.Sprintf("198.51.%d.%d", service/250, 1+service%250) }

// text returns a configuration in which the first backend of each service has this weight.
func (s *Stream) text(weight int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "[engine]\ncores = [%d]\npoll = \"busy\"\nstate_dir = \"\"\nconnections = %d\n[[port]]\nname = %q\n", s.CPU, 4*s.Flows+65536, portName)
	for i := range s.Services {
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\naddress = %q\nport = 53\nprotocol = \"udp\"\nmode = \"nat\"\nscheduler = \"wlc\"\n", i, vip(i))
		b.WriteString("[service.health]\ntype = \"none\"\n")
		for n := range s.Backends {
			fmt.Fprintf(&b, "[[service.backend]]\naddress = \"10.%d.%d.%d\"\nport = 5353\n", i/250, i%250, 1+n)
			if n == 0 {
				fmt.Fprintf(&b, "weight = %d\n", weight)
			}
		}
	}
	return []byte(b.String())
}

// frame returns the packet of a flow. Flows take the services in turn.
func (s *Stream) frame(i int) []byte {
	client := fmt.Sprintf("192.0.2.%d:%d", 1+i%250, firstPort+i/250)
	return packettest.UDP(client, vip(i%s.Services)+":53").Payload([]byte("0123456789")).MACs(gatewayMAC, portMAC).Frame()
}

// Reload makes the engine run the other configuration.
func (s *Stream) Reload(ctx context.Context) error {
	s.reloads++
	result, err := s.engine.Reload(ctx, api.ReloadOptions{})
	if err == nil && len(result.Changes) < s.Services {
		err = fmt.Errorf("a reload changed %d weights, want %d", len(result.Changes), s.Services)
	}
	return err
}

// Reading is what was measured in a window.
type Reading struct {
	Seconds              float64
	Packets              int
	Lost                 int // packets for which there was no chunk
	P50Us, P999Us, MaxUs float64
}

// Measure measures while f runs.
func (s *Stream) Measure(ctx context.Context, f func() error) (Reading, error) {
	w, start := &window{ns: hdrhistogram.New(1, longestNs, 3)}, time.Now()
	s.port.window.Store(w)
	err := f()
	s.port.window.Store(nil)
	seconds := time.Since(start).Seconds()
	_, statsErr := s.engine.Stats(ctx) // answered between two turns: the worker has left the window
	us := func(quantile float64) float64 { return float64(w.ns.ValueAtQuantile(quantile)) / 1000 }
	return Reading{
		Seconds: seconds, Packets: int(w.ns.TotalCount()), Lost: w.lost,
		P50Us: us(50), P999Us: us(99.9), MaxUs: float64(w.ns.Max()) / 1000,
	}, errors.Join(err, statsErr)
}
