package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Config configures a backend. Addresses are an IP literal and a port, like "10.0.0.11:80" or
// "[fd00::11]:80", or ":80" for all addresses of both families.
type Config struct {
	Name string   // without spaces
	HTTP []string // HTTP
	Echo []string // TCP echo
	UDP  []string // UDP request and response
}

// Backend is a running backend. Its methods may be called by any goroutine.
type Backend struct {
	name  string
	addrs []net.Addr

	mu      sync.Mutex
	closed  bool
	open    map[io.Closer]bool // listeners, connections, servers
	running sync.WaitGroup
}

// Start opens all sockets in the network namespace of the calling thread and serves them until
// Close. If one cannot be opened, Start returns an error and nothing runs.
func Start(cfg Config) (*Backend, error) {
	b := &Backend{name: cfg.Name, open: map[io.Closer]bool{}}
	if err := b.start(cfg); err != nil {
		b.Close()
		return nil, fmt.Errorf("backend %s: %w", cfg.Name, err)
	}
	return b, nil
}

func (b *Backend) start(cfg Config) error {
	if !legalName(cfg.Name) {
		return fmt.Errorf("name %q: give one without spaces", cfg.Name)
	}
	for _, s := range []struct {
		addrs  []string
		listen func(network, addr string) error
		proto  string
	}{{cfg.HTTP, b.serveHTTP, "tcp"}, {cfg.Echo, b.serveEcho, "tcp"}, {cfg.UDP, b.serveUDP, "udp"}} {
		for _, addr := range s.addrs {
			networks, err := families(s.proto, addr)
			if err != nil {
				return err
			}
			for _, network := range networks {
				if err := s.listen(network, addr); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// families returns the networks for an address. One socket serves one family, so that no IPv4
// address appears in its IPv6 form.
func families(proto, addr string) ([]string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return []string{proto + "4", proto + "6"}, nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("address %q must be an IP literal and a port, or only :port: %w", addr, err)
	}
	if a.Is4() {
		return []string{proto + "4"}, nil
	}
	return []string{proto + "6"}, nil
}

// Addrs returns the addresses that the backend listens on, in the order of its Config.
func (b *Backend) Addrs() []net.Addr { return b.addrs }

// Close ends everything, open connections included, and waits for the end. It may be called twice.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	var errs []error
	for c := range b.open {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	clear(b.open)
	b.mu.Unlock()
	b.running.Wait()
	return errors.Join(errs...)
}

// run calls f on a goroutine that Close waits for, after closing c to make f return.
func (b *Backend) run(c io.Closer, f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		c.Close()
		return
	}
	b.open[c] = true
	b.running.Add(1)
	go func() {
		defer b.running.Done()
		f()
		c.Close()
		b.mu.Lock()
		delete(b.open, c)
		b.mu.Unlock()
	}()
}

// listenTCP listens in the namespace of the calling thread, without MPTCP.
func (b *Backend) listenTCP(network, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), network, addr)
	if err == nil {
		b.addrs = append(b.addrs, l.Addr())
	}
	return l, err
}

func (b *Backend) serveHTTP(network, addr string) error {
	l, err := b.listenTCP(network, addr)
	if err != nil {
		return err
	}
	// Labs kill clients in the middle of requests; these errors are not logged.
	server := &http.Server{Handler: handler(b.name), ErrorLog: log.New(io.Discard, "", 0)}
	b.run(server, func() { _ = server.Serve(l) })
	return nil
}
