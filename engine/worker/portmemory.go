package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/pipeline"
	"sluice/pipeline/snat"
)

// portMemory is the memory of a worker's SNAT ports. It is outside the Go heap, which it would make
// large. The control plane adds to it before the worker's Memory is empty. What a worker takes next
// has pages, huge ones if there are any; the kernel gives the others when they are used for the
// first time.
type portMemory struct {
	mu     sync.Mutex // guards the fields below
	areas  [][]byte
	closed bool
}

// get returns so much memory, valid until close. soon: it will be used soon.
func (m *portMemory) get(bytes int, soon bool) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errStopped
	}
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("%d bytes for SNAT ports: %w", bytes, err)
	}
	if soon {
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
		_ = unix.Madvise(mem, unix.MADV_POPULATE_WRITE) // else when it is used
	}
	m.areas = append(m.areas, mem)
	return mem, nil
}

// close frees the memory. The worker has ended.
func (m *portMemory) close() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, mem := range m.areas {
		err = errors.Join(err, unix.Munmap(mem))
	}
	m.areas = nil
	return err
}

// portMemoryPart bounds how many bytes a worker adds at once: it moves no packets meanwhile.
const portMemoryPart = 8 << 20

// add adds what a worker's Memory lacks, by calls of add. What is added last is taken first.
func (m *portMemory) add(lacking [snat.Kinds]int, add func(kind int, mem []byte) error) error {
	for kind, bytes := range lacking {
		for ; bytes > 0; bytes -= portMemoryPart {
			mem, err := m.get(min(bytes, portMemoryPart), bytes <= portMemoryPart)
			if err != nil {
				return err
			}
			if err := add(kind, mem); err != nil {
				return err
			}
		}
	}
	return nil
}

// addPortMemory gives the worker's Memory what it lacks, while the worker runs.
func (w *Worker) addPortMemory(ctx context.Context, lacking [snat.Kinds]int) error {
	return w.portMemory.add(lacking, func(kind int, mem []byte) error {
		return w.Do(ctx, func() { w.ports.Add(kind, mem) })
	})
}

// firstPortMemory gives the worker's Memory what it lacks, before the worker runs.
func (w *Worker) firstPortMemory() error {
	return w.portMemory.add(w.ports.Lacks(w.tables.Load().SNATPools()), func(kind int, mem []byte) error {
		w.ports.Add(kind, mem)
		return nil
	})
}

// portsTimeout bounds how long PreparePorts waits for the workers. What a worker lacks then it gets
// at its next ping.
const portsTimeout = 500 * time.Millisecond

// PreparePorts gives the workers, which run, the memory for the SNAT pools that the next tables
// have in addition, so that the first connections of these find ports. A nil Set needs none.
func (s *Set) PreparePorts(next *pipeline.Tables) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), portsTimeout)
	defer cancel()
	var preparing sync.WaitGroup
	for _, w := range s.All {
		if next.SNATPools() <= w.tables.Load().SNATPools() || w.silent.Load() {
			continue
		}
		preparing.Go(func() {
			var lacking [snat.Kinds]int
			if w.Ask(ctx, func() { lacking = w.ports.Lacks(next.SNATPools()) }) == nil {
				_ = w.addPortMemory(ctx, lacking) // a failure is logged at the next ping
			}
		})
	}
	preparing.Wait()
}
