package main

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"sluice/engine/platform"
	"sluice/engine/tokernel"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// discard is a platform of which the device counts packets instead of giving them to the kernel.
type discard struct {
	platform.Platform
	written atomic.Int64
}

func (d *discard) Inject() (platform.Device, error) { return d, nil }
func (d *discard) Name() string                     { return "discard" }
func (d *discard) Write(packet []byte) (int, error) { d.written.Add(1); return len(packet), nil }
func (d *discard) Close() error                     { return nil }

// toKernel measures datagrams that backends send of their own accord: from arrival until a copy is
// on the ring to the goroutine that gives it to the kernel. What that takes, on another CPU, is not
// part of it.
func toKernel(r *result, rounds, packets, batch int) error {
	c := newCrew(1)
	c.proto = service.UDP
	l, err := newWorkerLab(c, 0, r.Family, service.NAT, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	device := new(discard)
	path, err := tokernel.New(1, device, func() {}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	path.Want([]service.Key{{Protocol: service.UDP}})
	_, backend, _ := l.addresses()
	peer := "10.0.0.1:5000"
	if r.Family == 6 {
		peer = "[2001:db8:9::1]:5000"
	}
	l.frame = packettest.UDP(netip.AddrPortFrom(backend(0), 80).String(), peer).Payload(make([]byte, 18)).Frame()
	s := strays{lab: l, outlet: path.Outlet(0), device: device}
	if _, err := s.run(packets / 4); err != nil {
		return err
	}
	allocs := allocations(func() {
		for range rounds {
			var ns float64
			if ns, err = s.run(packets); err != nil {
				return
			}
			r.ns = append(r.ns, ns)
		}
	})
	r.AllocsPerPacket = perUnit(allocs, rounds*packets)
	if closeErr := path.Close(); err == nil {
		err = closeErr
	}
	return err
}

// strays is a lab with packets that are the kernel's.
type strays struct {
	*lab
	outlet *tokernel.Outlet
	device *discard
	put    int64 // packets so far
}

// run returns the time per packet in ns. Between two batches, the pipeline's time goes on for as
// long as the limit takes to admit another, and the ring is emptied.
func (s *strays) run(packets int) (float64, error) {
	random := rand.New(rand.NewPCG(1, 2))
	s.times = s.times[:0]
	for done := 0; done < packets; done += s.size {
		for i := range s.size {
			s.lab.put(i, 0, 0)
			f := &s.batch.Frames[i]
			f.Port = 1
			copy(f.Mem[f.Start:], s.frame)
			binary.BigEndian.PutUint16(f.Mem[f.Start+s.l4()+2:], uint16(random.Uint32()))
		}
		s.nowMs += uint32(1 + 1000*s.size/tokernel.PerSecond)
		start := time.Now()
		s.proc.Process(s.batch, s.size, s.tables, s.nowMs)
		for i := range s.size {
			f := &s.batch.Frames[i]
			if f.Verdict != pipeline.ToKernel {
				return 0, fmt.Errorf("a stray has verdict %v, reason %v", f.Verdict, f.Reason)
			}
			if reason := s.outlet.Put(f.Mem[f.Start:f.End], s.nowMs, f.Reason); reason != counter.None {
				return 0, fmt.Errorf("a stray does not get to the kernel: %v", reason)
			}
		}
		s.times = append(s.times, time.Since(start))
		for s.put += int64(s.size); s.device.written.Load() < s.put; {
			runtime.Gosched()
		}
	}
	return s.mean(), nil
}
