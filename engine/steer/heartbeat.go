package steer

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// heartbeats is the memory of a port's map of that name: for each queue the time at which its
// worker last said that it runs.
type heartbeats struct {
	memory []byte
	queues []atomic.Int64 // in memory
}

// open maps the map's memory.
func (h *heartbeats) open(m *ebpf.Map) (err error) {
	bytes := int(m.MaxEntries()) * heartbeatSize
	if h.memory, err = unix.Mmap(m.FD(), 0, (bytes+unix.Getpagesize()-1)&^(unix.Getpagesize()-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("steer: mapping the memory of the XDP program's heartbeats: %w", err)
	}
	h.queues = heartbeatsIn(h.memory, int(m.MaxEntries()))
	return nil
}

func (h *heartbeats) close() error {
	memory := h.memory
	h.memory, h.queues = nil, nil
	if memory == nil {
		return nil
	}
	return unix.Munmap(memory)
}

// Heartbeat returns where the worker of a registered queue stores the time, in ns of the kernel's
// CLOCK_MONOTONIC, as often as every 100 ms. Once it has, frames for Sluice are dropped when the
// time is more than 300 ms ago (HEARTBEAT_NS in steer.c). It is valid until Close.
func (p *Port) Heartbeat(queue int) *atomic.Int64 { return &p.heartbeats.queues[queue] }

// countersName is how the counters of ports are named at the holder, before the number of the
// interface.
const countersName = "counters."

// inheritCounters takes over the counters of an interface from the former process: they count on.
func (p *Program) inheritCounters(ifindex string) {
	fd, ok := p.holder.Take(countersName + ifindex)
	if !ok {
		return
	}
	m, err := ebpf.NewMapFromFD(fd) // owns fd, also when it fails
	if err != nil {
		return
	}
	if p.spec.Maps[steerMapCounters].Compatible(m) != nil { // of another version
		m.Close()
		return
	}
	p.counters[ifindex] = m
}

// closeCounters closes the former counters; ports have copies.
func (p *Program) closeCounters() (err error) {
	for _, m := range p.counters {
		err = errors.Join(err, m.Close())
	}
	p.counters = nil
	return err
}
