package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"sluice/bench/loops"
	"sluice/bench/testbed"
	"sluice/tools/netlab"
)

// Loop is a loop of package loops.
type Loop struct {
	Kind  loops.Kind
	CPU   int
	Ports int // of the VIP; 0: 1

	process *netlab.Process
}

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 5 * time.Second

// Start implements Peer.
func (l *Loop) Start(ctx context.Context, s *testbed.Bed) error {
	source, err1 := s.Balancer.MAC(testbed.Back)
	to, err2 := s.Server.MAC(testbed.Eth)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	command, err := loops.Command(loops.Config{
		Kind: l.Kind, In: testbed.Front, Out: testbed.Back, Source: source, To: to, CPU: l.CPU,
		Address: testbed.VIP.String(), FirstPort: testbed.FirstPort, Ports: max(l.Ports, 1),
	})
	if err != nil {
		return err
	}
	if l.process, err = s.Balancer.Start(command); err != nil {
		return err
	}
	_, err = l.process.WaitLine(ctx, loops.ReadyLine)
	return err
}

// Counters implements Peer.
func (l *Loop) Counters(ctx context.Context) (Counters, error) {
	mark := l.process.Mark()
	if err := l.process.Signal(syscall.SIGUSR1); err != nil {
		return Counters{}, fmt.Errorf("loop %s: %w", l.Kind, err)
	}
	line, err := l.process.WaitLineAfter(ctx, mark, loops.CountersLine)
	if err != nil {
		return Counters{}, err
	}
	var c loops.Counters
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, loops.CountersLine)), &c); err != nil {
		return Counters{}, fmt.Errorf("loop %s: %q: %w", l.Kind, line, err)
	}
	return Counters{Known: true, Frames: c.Sent, Received: c.Frames, Batches: c.Turns, Syscalls: float64(c.Syscalls),
		CPUNs: ranNs(l.process.PID()), Mode: "copy"}, nil
}

// Stop implements Peer.
func (l *Loop) Stop() error {
	if err := l.process.Stop(stopGrace); err != nil {
		return err
	}
	return l.process.Wait()
}
