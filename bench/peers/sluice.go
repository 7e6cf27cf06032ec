package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/BurntSushi/toml"

	"sluice/bench/testbed"
	"sluice/engine/api"
	"sluice/tools/netlab"
)

// Sluice is `sluice run` in a process of its own.
type Sluice struct {
	Program     string // path
	Dir         string // for its configuration and socket
	Name        string // of its files there
	Mode        string // nat, fullnat, tun or dr
	Cores       []int
	Connections int // 0: the default
	Services    int // ports of the VIP, each with a service for UDP and one for TCP; 0: 1
	Backends    int // of each service; 0: 3
	Poll        string

	process *netlab.Process
	api     *api.Client
}

// file has the keys of the configuration file that are used here.
type file struct {
	Engine struct {
		Cores       []int  `toml:"cores"`
		Connections int    `toml:"connections,omitzero"`
		Poll        string `toml:"poll,omitempty"`
		StateDir    string `toml:"state_dir"` // "": a measurement leaves nothing behind
	} `toml:"engine"`
	Ports []filePort `toml:"port"`
	API   struct {
		Socket string `toml:"socket"`
		HTTP   string `toml:"http"`
	} `toml:"api"`
	Services []fileService `toml:"service"`
}

type filePort struct {
	Name string `toml:"name"`
}

type fileService struct {
	Name      string        `toml:"name"`
	Address   string        `toml:"address"`
	Port      int           `toml:"port"`
	Protocol  string        `toml:"protocol"`
	Mode      string        `toml:"mode"`
	Scheduler string        `toml:"scheduler"`
	Source    []string      `toml:"source,omitempty"`
	Health    fileHealth    `toml:"health"`
	Backends  []fileBackend `toml:"backend"`
}

type fileHealth struct {
	Type string `toml:"type"`
}

type fileBackend struct {
	Address string `toml:"address"`
	Port    int    `toml:"port,omitzero"`
}

// BackendPort is the port that nat sends to.
const BackendPort = 8080

// config returns the configuration file: every service has all backends, and round robin spreads
// over them.
func (p *Sluice) config(s *testbed.Bed) file {
	var f file
	f.Engine.Cores, f.Engine.Connections, f.Engine.Poll = p.Cores, p.Connections, p.Poll
	f.Ports = []filePort{{testbed.Front}, {testbed.Back}}
	f.API.Socket = filepath.Join(p.Dir, p.Name+".sock")
	for i := range max(p.Services, 1) {
		for _, protocol := range []string{"udp", "tcp"} {
			f.Services = append(f.Services, p.service(s, i, protocol))
		}
	}
	return f
}

func (p *Sluice) service(s *testbed.Bed, i int, protocol string) fileService {
	service := fileService{
		Name: fmt.Sprint(protocol, i), Address: testbed.VIP.String(), Port: testbed.FirstPort + i,
		Protocol: protocol, Mode: p.Mode, Scheduler: "rr", Health: fileHealth{"none"},
	}
	if p.Mode == "fullnat" {
		service.Source = []string{testbed.Pool.String()}
	}
	backends := p.Backends
	if backends == 0 {
		backends = 3
	}
	for b := range backends {
		backend := fileBackend{Address: testbed.Backend(b % s.Backends).String()}
		if p.Mode == "nat" || p.Mode == "fullnat" {
			backend.Port = BackendPort + b/s.Backends
		}
		service.Backends = append(service.Backends, backend)
	}
	return service
}

// Start implements Peer.
func (p *Sluice) Start(ctx context.Context, s *testbed.Bed) error {
	f := p.config(s)
	path := filepath.Join(p.Dir, p.Name+".toml")
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(toml.NewEncoder(out).Encode(f), out.Close()); err != nil {
		return err
	}
	p.api = api.NewClient(f.API.Socket)
	if p.process, err = s.Balancer.Start(exec.Command(p.Program, "run", "--config", path)); err != nil {
		return err
	}
	_, err = p.process.WaitLine(ctx, "ready")
	return err
}

// Counters implements Peer.
func (p *Sluice) Counters(ctx context.Context) (Counters, error) {
	s, err := p.api.Stats(ctx)
	if err != nil {
		return Counters{}, err
	}
	c := Counters{Known: true, Frames: s.Forwarded, Received: s.Rx, CPUNs: ranNs(p.process.PID())}
	for _, w := range s.Workers {
		frames := float64(w.Rx)
		c.Syscalls += w.SyscallsPerPacket * frames
		if w.PacketsPerBatch > 0 {
			c.Batches += uint64(frames / w.PacketsPerBatch)
		}
	}
	if len(s.Ports) > 0 {
		c.Mode = s.Ports[0].IO
	}
	return c, nil
}

// Stats returns the daemon's statistics.
func (p *Sluice) Stats(ctx context.Context) (api.Stats, error) { return p.api.Stats(ctx) }

// Stop implements Peer.
func (p *Sluice) Stop() error {
	if err := p.process.Stop(stopGrace); err != nil {
		return err
	}
	return p.process.Wait()
}
