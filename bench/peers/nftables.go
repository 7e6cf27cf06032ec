package peers

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"sluice/bench/testbed"
)

// NFTables is the kernel's own NAT: a rule of nft(8) that gives each new connection to the next
// backend, and connection tracking.
type NFTables struct {
	CPU      int
	Install  Install
	Protocol string // tcp or udp
	Backends int    // 0: 3
	Sockets  bool   // both ends use the kernel's TCP, not XDP
}

// Start implements Peer.
func (n *NFTables) Start(_ context.Context, s *testbed.Bed) error {
	nft, err := n.Install.find("nft", "nftables")
	if err != nil {
		return err
	}
	if err := forwarding(s, n.CPU, !n.Sockets); err != nil {
		return err
	}
	command := exec.Command(nft, "-f", "-")
	command.Stdin = strings.NewReader(n.rules(s))
	p, err := s.Balancer.Start(command)
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return missing("this kernel doesn't take the rules: %v: %s", err, lastLine(p.Output()))
	}
	return nil
}

// rules returns the rules for nft(8).
func (n *NFTables) rules(s *testbed.Bed) string {
	backends := n.Backends
	if backends == 0 {
		backends = 3
	}
	var elements []string
	for i := range backends {
		elements = append(elements, fmt.Sprintf("%d : %s . %d", i, testbed.Backend(i%s.Backends), BackendPort+i/s.Backends))
	}
	return fmt.Sprintf(`table ip bench {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr %s %s dport %d dnat ip addr . port to numgen inc mod %d map { %s }
	}
}
`, testbed.VIP, n.Protocol, testbed.FirstPort, backends, strings.Join(elements, ", "))
}

// Counters implements Peer.
func (n *NFTables) Counters(context.Context) (Counters, error) { return Counters{InKernel: true}, nil }

// Stop implements Peer.
func (n *NFTables) Stop() error { return nil }
