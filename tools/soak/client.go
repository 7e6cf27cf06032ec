package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Target is a service, and the client's address in its family.
type Target struct {
	Service string
	Address netip.AddrPort
	Local   netip.Addr
}

// Load is what a client process does.
type Load struct {
	Targets []Target // in turn
	Rate    int      // new connections per second, of all together
	Timeout time.Duration
	Longest time.Duration // the longest life of a connection, but for loss
	Seed    uint64
}

// Totals counts the connections of a client process so far.
type Totals struct {
	Opened  int
	Open    int
	Skipped int                       // not opened: too many open, or the port still in use
	OK      map[string]map[string]int // by service and server
}

// message is one line of a client process.
type message struct {
	Broken *Broken `json:",omitempty"`
	Totals *Totals `json:",omitempty"`
}

// The local ports of a client: each target has a range of its own, and takes a port again when it
// has taken all others.
const (
	firstPort = 2048
	lastPort  = 65535
)

// maxOpen limits what is open at once, below the limit of open files.
const maxOpen = 12_000

// client is a client process.
type client struct {
	load Load
	stop chan struct{} // closed when it shall come to its end
	out  *json.Encoder

	mu     sync.Mutex // guards what follows, and out
	totals Totals
}

// call opens connections until its input ends, waits for all of them, and reports on its output.
func call(text string) error {
	c := &client{stop: make(chan struct{}), out: json.NewEncoder(os.Stdout), totals: Totals{OK: map[string]map[string]int{}}}
	if err := json.Unmarshal([]byte(text), &c.load); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is the order to come to an end
		close(c.stop)
	}()
	go func() {
		for range time.Tick(time.Second) {
			c.report()
		}
	}()
	c.openAll()
	c.report()
	return nil
}

func (c *client) openAll() {
	var open sync.WaitGroup
	defer open.Wait()
	began := time.Now()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(c.load.Rate)))):
		}
		if c.begin() {
			open.Go(func() { c.one(n) })
		}
	}
}

// begin counts a connection, unless too many are open.
func (c *client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.totals.Open >= maxOpen {
		c.totals.Skipped++
		return false
	}
	c.totals.Opened++
	c.totals.Open++
	return true
}

// one makes connection number n.
func (c *client) one(n int) {
	targets := c.load.Targets
	t, turn := targets[n%len(targets)], n/len(targets)
	ports := (lastPort - firstPort + 1) / len(targets)
	seed := [32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), byte(c.load.Seed), byte(c.load.Seed >> 8)}
	conn := &connection{
		Broken:  Broken{Service: t.Service, Local: netip.AddrPortFrom(t.Local, uint16(firstPort+n%len(targets)*ports+turn%ports))},
		timeout: c.load.Timeout, stop: c.stop,
		random: rand.New(rand.NewPCG(c.load.Seed, uint64(n))),
		data:   rand.NewChaCha8(seed),
	}
	c.end(conn, conn.run(t.Address, c.load.Longest))
}

// end counts and reports how a connection ended.
func (c *client) end(conn *connection, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals.Open--
	switch {
	case err == nil:
		if c.totals.OK[conn.Service] == nil {
			c.totals.OK[conn.Service] = map[string]int{}
		}
		c.totals.OK[conn.Service][conn.Server]++
	case errors.Is(err, errBusy):
		c.totals.Opened--
		c.totals.Skipped++
	default:
		conn.Why = reason(err)
		c.send(message{Broken: &conn.Broken})
	}
}

func (c *client) report() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(message{Totals: &c.totals})
}

func (c *client) send(m message) {
	if err := c.out.Encode(m); err != nil {
		fmt.Fprintln(os.Stderr, "soak client:", err)
		os.Exit(1)
	}
}

// sum returns the connections that ended well.
func (t Totals) sum(service string) (n int) {
	for _, count := range t.OK[service] {
		n += count
	}
	return n
}
