package testbed

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/BurntSushi/toml"
)

// Config has the keys of the configuration file that tests use.
type Config struct {
	Engine   Engine            `toml:"engine"`
	Ports    []Port            `toml:"port"`
	Timeouts map[string]string `toml:"timeouts,omitempty"`
	API      API               `toml:"api"`
	Services []Service         `toml:"service"`
}

// Engine is [engine].
type Engine struct {
	Cores       []int  `toml:"cores,omitempty"`
	Connections int    `toml:"connections,omitzero"`
	StateDir    string `toml:"state_dir"` // "": nothing outlives the daemon
	StuckAfter  string `toml:"stuck_after,omitempty"`
	OnStop      string `toml:"on_stop,omitempty"`
	BPFDir      string `toml:"bpf_dir,omitempty"`
}

// Port is [[port]].
type Port struct {
	Name string `toml:"name"`
	IO   string `toml:"io,omitempty"` // "": auto

	Queues []int `toml:"queues,omitempty"` // nil: all
}

// API is [api].
type API struct {
	Socket    string `toml:"socket"`
	HTTP      string `toml:"http,omitempty"` // "": the default
	TokenFile string `toml:"token_file,omitempty"`
}

// Service is [[service]].
type Service struct {
	Name        string            `toml:"name"`
	Address     string            `toml:"address"`
	Port        any               `toml:"port"` // a number, or a string for a range or any
	Protocol    string            `toml:"protocol"`
	Mode        string            `toml:"mode"`
	Scheduler   string            `toml:"scheduler"`
	Hash        string            `toml:"hash,omitempty"`
	Persistence string            `toml:"persistence,omitempty"`
	Source      []string          `toml:"source,omitempty"`
	OnDown      string            `toml:"on_down,omitempty"`
	SlowStart   string            `toml:"slow_start,omitempty"`
	Timeouts    map[string]string `toml:"timeouts,omitempty"`
	Health      map[string]any    `toml:"health,omitempty"`
	Sorry       *Server           `toml:"sorry,omitempty"`
	Backends    []Server          `toml:"backend"`
}

// Endpoint returns the address and port of the service. The port must be a number.
func (s Service) Endpoint() string { return net.JoinHostPort(s.Address, fmt.Sprint(s.Port)) }

// Server is [[service.backend]].
type Server struct {
	Address string `toml:"address"`
	Port    int    `toml:"port,omitzero"`
	Weight  *int   `toml:"weight,omitempty"`
}

// String returns the file's text.
func (c Config) String() string {
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(c); err != nil {
		panic(err) // TOML can hold all of these types
	}
	return text.String()
}

// NewConfig returns a configuration with both ports of the balancer, one worker, and the HTTP and
// UDP service of each path, round robin.
func NewConfig(core int, paths ...Path) Config {
	c := Config{
		Engine: Engine{Cores: []int{core}, Connections: 1 << 16},
		Ports:  []Port{{Name: Front}, {Name: Back}},
	}
	for _, p := range paths {
		c.Services = append(c.Services, p.Web(), p.Datagrams())
	}
	return c
}

// Web returns the path's HTTP service, with all backends.
func (p Path) Web() Service { return p.service("web", "tcp", WebPort, NATWebPort) }

// Datagrams returns the path's UDP service, with all backends.
func (p Path) Datagrams() Service { return p.service("udp", "udp", UDPPort, NATUDPPort) }

func (p Path) service(name, protocol string, port, natPort int) Service {
	s := Service{
		Name: name + "-" + p.String(), Address: p.Address().String(), Port: port,
		Protocol: protocol, Mode: p.Mode, Scheduler: "rr",
	}
	for i := range Backends {
		server := Server{Address: p.backend(i).String()}
		if p.Mode == "nat" || p.Mode == "fullnat" {
			server.Port = natPort
		}
		s.Backends = append(s.Backends, server)
	}
	if p.Mode == "fullnat" {
		s.Source = []string{p.Seen().String()}
	}
	return s
}

// backend returns the address under which the path reaches backend i, from 0 on.
func (p Path) backend(i int) netip.Addr { return backNet[p.Backend].host(backendHost + 1 + byte(i)) }
