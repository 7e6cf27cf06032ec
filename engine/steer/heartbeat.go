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
	m      *ebpf.Map
	memory []byte
	queues []atomic.Int64 // in memory
}

// open maps the map's memory.
func (h *heartbeats) open() (err error) {
	bytes := int(h.m.MaxEntries()) * heartbeatSize
	if h.memory, err = unix.Mmap(h.m.FD(), 0, (bytes+unix.Getpagesize()-1)&^(unix.Getpagesize()-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("steer: mapping the memory of the XDP program's heartbeats: %w", err)
	}
	h.queues = heartbeatsIn(h.memory, int(h.m.MaxEntries()))
	return nil
}

func (h *heartbeats) close() error {
	m, memory := h.m, h.memory
	*h = heartbeats{}
	if memory == nil {
		return m.Close()
	}
	return errors.Join(m.Close(), unix.Munmap(memory))
}

// Heartbeat returns where the worker of a registered queue stores the time, in ns of the kernel's
// CLOCK_MONOTONIC, as often as every 100 ms. Once it has, frames for Sluice are dropped when the
// time is more than 300 ms ago (HEARTBEAT_NS in steer.c). It is valid until Close.
func (p *Port) Heartbeat(queue int) *atomic.Int64 { return &p.beats.queues[queue] }
