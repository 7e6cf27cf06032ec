package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"sluice/bench/testbed"
)

// IPVS is the kernel's layer-4 balancer in its NAT mode, with round robin.
type IPVS struct {
	CPU      int
	Install  Install
	Protocol string // tcp or udp
}

// Start implements Peer.
func (v *IPVS) Start(_ context.Context, s *testbed.Bed) error {
	if modprobe := lookup("modprobe"); modprobe != "" {
		_ = exec.Command(modprobe, "ip_vs_rr").Run() // loads ip_vs; fails if built in or missing
	}
	hasIPVS := s.Balancer.Do(func() error {
		_, err := os.Stat("/proc/thread-self/net/ip_vs")
		return err
	})
	if hasIPVS != nil {
		return missing("this kernel has no IPVS (CONFIG_IP_VS)")
	}
	ipvsadm, err := v.Install.find("ipvsadm", "ipvsadm")
	if err != nil {
		return err
	}
	if err := forwarding(s, v.CPU, true); err != nil {
		return err
	}
	// IPVS takes what is addressed to the host itself.
	if err := s.Balancer.AddLo(testbed.VIP.String()); err != nil {
		return err
	}
	protocol := map[string]string{"tcp": "-t", "udp": "-u"}[v.Protocol]
	virtual := fmt.Sprintf("%s:%d", testbed.VIP, testbed.FirstPort)
	commands := [][]string{{"-A", protocol, virtual, "-s", "rr"}}
	for i := range s.Backends {
		commands = append(commands, []string{"-a", protocol, virtual, "-r", fmt.Sprintf("%s:%d", testbed.Backend(i), BackendPort), "-m"})
	}
	for _, arguments := range commands {
		p, err := s.Balancer.Start(exec.Command(ipvsadm, arguments...))
		if err != nil {
			return err
		}
		if err := p.Wait(); err != nil {
			return fmt.Errorf("ipvsadm %v: %w: %s", arguments, err, lastLine(p.Output()))
		}
	}
	return nil
}

// Counters implements Peer.
func (v *IPVS) Counters(context.Context) (Counters, error) { return Counters{InKernel: true}, nil }

// Stop implements Peer.
func (v *IPVS) Stop() error { return nil }
