package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"sluice/tools/netlab"
)

// XDP returns the number of the XDP program on each of the balancer's ports; a port without one, or
// that a test has taken away, is not in the map.
func (b *Bed) XDP() (programs map[string]ebpf.ProgramID, err error) {
	programs = map[string]ebpf.ProgramID{}
	err = b.Balancer.Do(func() error {
		for _, name := range []string{Front, Back} {
			link, err := netlink.LinkByName(name)
			if errors.As(err, new(netlink.LinkNotFoundError)) {
				continue
			}
			if err != nil {
				return err
			}
			if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
				programs[name] = ebpf.ProgramID(xdp.ProgId)
			}
		}
		return nil
	})
	return programs, err
}

// AwaitNoXDP waits until no port of the balancer has an XDP program, and the kernel has unloaded
// the given ones. Both take a moment after the end of the process that had them.
func (b *Bed) AwaitNoXDP(ctx context.Context, loaded map[string]ebpf.ProgramID) error {
	return Poll(ctx, func() error {
		attached, err := b.XDP()
		if err == nil && len(attached) > 0 {
			err = fmt.Errorf("XDP programs are still attached: %v", attached)
		}
		for port, id := range loaded {
			if p, loadErr := ebpf.NewProgramFromID(id); loadErr == nil {
				p.Close()
				err = errors.Join(err, fmt.Errorf("the XDP program %d of port %s is still loaded", id, port))
			} else if !errors.Is(loadErr, os.ErrNotExist) {
				err = errors.Join(err, loadErr)
			}
		}
		return err
	})
}

// Namespaces lists the namespaces that this process's labs of a name have.
func Namespaces(lab string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join("/run/netns", fmt.Sprintf("netlab.%s.*.%d.*", lab, os.Getpid())))
	for i := range all {
		all[i] = strings.TrimPrefix(all[i], "/run/netns/")
	}
	return all, err
}

// Children lists the processes that this one has started, directly or not, and that still run.
func Children() (pids []int, err error) {
	parents := map[int]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// The command in parentheses may contain any bytes, so fields are counted from its end
		// (proc_pid_stat(5)).
		pid, parent, state := 0, 0, ""
		_, _ = fmt.Sscanf(string(text), "%d", &pid) // a process that is gone leaves zeros
		_, _ = fmt.Sscanf(string(text[bytes.LastIndexByte(text, ')')+1:]), "%s %d", &state, &parent)
		if state != "Z" {
			parents[pid] = parent
		}
	}
	for pid := range parents {
		for up, ok := pid, true; ok; up, ok = parents[up] {
			if parents[up] == os.Getpid() {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}

// Poll calls look until it returns no error. When ctx ends, Poll returns its last error.
func Poll(ctx context.Context, look func() error) error {
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// EndConnections ends what clients and backends still have of TCP connections, so that none of
// their segments reaches a daemon that is started later. Such connections remain when a daemon ends
// before them: one end knows nothing of it, and sends until its timers end.
func (b *Bed) EndConnections() (err error) {
	hosts := []*netlab.Host{b.Client}
	for _, backend := range b.Backends {
		hosts = append(hosts, backend.Host)
	}
	for _, h := range hosts {
		err = errors.Join(err, h.Do(func() error {
			out, err := exec.Command("ss", "--kill", "--tcp", "exclude", "listening", "exclude", "time-wait").CombinedOutput()
			if err != nil {
				return fmt.Errorf("ss --kill at %s: %w: %s", h.Name(), err, out)
			}
			return nil
		}))
	}
	return err
}
