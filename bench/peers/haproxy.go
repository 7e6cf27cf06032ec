package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sluice/bench/testbed"
	"sluice/tools/netlab"
)

// HAProxy is the proxy of that name in TCP mode, with one thread: it ends the client's connection
// and opens another one to the backend.
type HAProxy struct {
	CPU     int
	Install Install
	Dir     string // for its configuration
	Name    string // of the file there

	process *netlab.Process
}

// Start implements Peer.
func (h *HAProxy) Start(ctx context.Context, s *testbed.Bed) error {
	haproxy, err := h.Install.find("haproxy", "haproxy")
	if err != nil {
		return err
	}
	if err := s.Balancer.AddLo(testbed.VIP.String()); err != nil {
		return err
	}
	if err := handToCPU(s, h.CPU); err != nil {
		return err
	}
	path := filepath.Join(h.Dir, h.Name+".cfg")
	if err := os.WriteFile(path, []byte(h.config(s)), 0o600); err != nil {
		return err
	}
	if h.process, err = s.Balancer.Start(exec.Command(haproxy, "-db", "-f", path)); err != nil {
		return err
	}
	return h.awaitListening(ctx, s)
}

// config returns HAProxy's configuration.
func (h *HAProxy) config(s *testbed.Bed) string {
	var servers strings.Builder
	for i := range s.Backends {
		fmt.Fprintf(&servers, "    server b%d %s:%d\n", i+1, testbed.Backend(i), BackendPort)
	}
	return fmt.Sprintf(`global
    nbthread 1
    cpu-map auto:1/1 %d
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind %s:%d
    default_backend servers
backend servers
    balance roundrobin
%s`, h.CPU, testbed.VIP, testbed.FirstPort, servers.String())
}

// awaitListening waits until HAProxy accepts connections, because it prints nothing when it does.
func (h *HAProxy) awaitListening(ctx context.Context, s *testbed.Bed) error {
	for {
		c, err := s.Client.Dial(ctx, "tcp", fmt.Sprintf("%s:%d", testbed.VIP, testbed.FirstPort))
		if err == nil {
			return c.Close()
		}
		select {
		case <-h.process.Ended():
			return fmt.Errorf("haproxy ended: %s", lastLine(h.process.Output()))
		case <-ctx.Done():
			return fmt.Errorf("haproxy takes no connections: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Counters implements Peer.
func (h *HAProxy) Counters(context.Context) (Counters, error) { return Counters{}, nil }

// Stop implements Peer.
func (h *HAProxy) Stop() error { return h.process.Kill() }
