package flooding

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sluice/engine/cpu"
	"sluice/tools/e2e/flood"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
	"sluice/tools/netlab/loadgen"
	"sluice/tools/pause"
)

// port is the TCP port of services and servers.
const port = 7000

// firstLive is the first client port of connections that last, below those that the kernel chooses.
const firstLive = 10_000

// lab is a testbed with a daemon and clients.
type lab struct {
	Case
	bed     *testbed.Bed
	daemon  *testbed.Daemon
	loss    *netlab.Loss // of the flood, behind the balancer
	live    *loadgen.Clients
	flooded netip.AddrPort
	other   netip.AddrPort

	softirqs []int  // the kernel's threads for packets
	dropped  uint64 // packets that did not fit in the queue of the balancer's first port
}

// open builds the lab and opens the connections that last.
func (s Settings) open(ctx context.Context, c Case) (l *lab, err error) {
	l = &lab{Case: c, softirqs: softirqThreads()}
	if l.bed, err = testbed.New(ctx, testbed.Options{Name: "floods", Sluice: s.Program, Queues: c.Workers}); err != nil {
		return nil, err
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.bed.Close())
	}
	return l, nil
}

func (l *lab) close() error { return l.bed.Close() }

func (l *lab) build(ctx context.Context) (err error) {
	if l.loss, err = l.bed.Router.LoseTOS("back", flood.Mark); err != nil {
		return err
	}
	// Enough client ports, each of which stays in TIME_WAIT for a minute unless it is used again.
	if err := errors.Join(
		l.bed.Client.Sysctl("net.ipv4.ip_local_port_range", "13000 65535"),
		l.bed.Client.Sysctl("net.ipv4.tcp_tw_reuse", "1"),
	); err != nil {
		return err
	}
	cfg, err := l.config()
	if err != nil {
		return err
	}
	for _, b := range l.bed.Backends {
		if err := b.Host.AddLo(l.other.Addr().String()); err != nil {
			return err
		}
		if _, err := loadgen.Serve(ctx, b.Host, fmt.Sprintf("0.0.0.0:%d", port), 1); err != nil {
			return err
		}
	}
	if l.daemon, err = l.bed.Start(ctx, cfg); err != nil {
		return err
	}
	if err := prefer(l.daemon.Process.PID()); err != nil {
		return err
	}
	p := testbed.Path{Mode: l.Mode, Family: 4, Backend: 4}
	if l.live, err = loadgen.Connect(ctx, l.bed.Client, []netip.Addr{p.Client()}, l.other.String()); err != nil {
		return err
	}
	if _, err := l.live.Open(ctx, firstLive, l.Live); err != nil {
		return err
	}
	// A second later a packet proves that they are real, in tun and dr.
	if err := pause.For(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	_, err = l.live.Echo(ctx)
	return err
}

// Names of the services.
const (
	floodedName = "flooded"
	otherName   = "other"
)

// config returns a configuration with the flooded service and the other one.
func (l *lab) config() (testbed.Config, error) {
	allowed, err := cpu.Allowed()
	if err != nil || len(allowed) < l.Workers {
		return testbed.Config{}, errors.Join(err, fmt.Errorf("%d workers need as many CPUs, and there are %d", l.Workers, len(allowed)))
	}
	cfg := testbed.NewConfig(0)
	cfg.Engine = testbed.Engine{Cores: allowed[len(allowed)-l.Workers:], Connections: l.Entries}
	p := testbed.Path{Mode: l.Mode, Family: 4, Backend: 4}
	l.other = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.120"), port)
	l.flooded = netip.AddrPortFrom(p.Address(), port)
	first, second := p.Web(), p.Web()
	if l.Kind == kindUDP {
		l.flooded = netip.AddrPortFrom(p.Address(), testbed.UDPPort)
		first = p.Datagrams()
	}
	first.Name, second.Name, second.Address = floodedName, otherName, l.other.Addr().String()
	for _, s := range []*testbed.Service{&first, &second} {
		if s.Protocol == "tcp" {
			s.Port = port
			for i := range s.Backends {
				s.Backends[i].Port = port
			}
		}
		if l.Mode == "tun" || l.Mode == "dr" {
			s.Scheduler, s.Hash = "mh", "address-port"
		}
		cfg.Services = append(cfg.Services, *s)
	}
	return cfg, nil
}

// flood begins a flood at a rate.
func (l *lab) flood(rate float64) (*flood.Flood, error) {
	at := flood.Cable{Host: l.bed.Router, Ifname: "front", Peer: l.bed.Balancer, PeerIf: testbed.Front}
	return flood.Start(at, flood.Traffic{Target: l.flooded, UDP: l.Kind == kindUDP, Rate: rate, Queues: l.Workers})
}
