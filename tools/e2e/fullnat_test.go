package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/pipeline/counter"
	"sluice/tools/e2e/testbed"
)

// TestFullNATAtItsLimit has as many real connections open at once as there are ports from one source address to one
// backend, sees that the next ones are dropped by name and harm none, and that all ports come back. (The pipeline's tests
// do the same with all 64,512 ports; so many real connections would need several processes at either end.)
func TestFullNATAtItsLimit(t *testing.T) {
	const crowd = 10_000
	b := newBed(t, testbed.Options{Name: "e2e-crowd"})
	// The kernel's own local ports are not fullnat's.
	must(t, b.Balancer.Sysctl("net.ipv4.ip_local_port_range", "16000 65535"))
	path := testbed.FullNATPaths[0]
	cfg := config(t, path)
	service := path.Web()
	service.Backends = service.Backends[:1]
	service.Timeouts = map[string]string{"tcp_close": "1s"}
	cfg.Services = []testbed.Service{service}
	d := start(t, b, cfg)

	clients := &crowdOf{bed: b, target: service.Endpoint(), local: path.Client()}
	defer clients.leave()
	opened := clients.come(t, 1024, 1024+crowd, time.Minute)
	if opened != crowd {
		t.Fatalf("%d of %d connections were opened", opened, crowd)
	}
	exhausted := counter.SNATExhausted.String()
	for port := 1024 + crowd; ; port += 256 {
		if port > 65536-256 {
			t.Fatal("there is no end to the ports of one address")
		}
		clients.come(t, port, port+256, time.Second)
		if by, err := drops(ctxOf(t), d); err != nil || by[exhausted] > 0 {
			must(t, err)
			break
		}
	}
	if by, err := drops(ctxOf(t), d); err != nil || len(by) != 1 {
		t.Errorf("drops by other names than %s: %v, %v", exhausted, by, err)
	}
	if broken := clients.broken(); broken != 0 {
		t.Errorf("%d connections broke", broken)
	}
	clients.leave()
	poll(t, "all ports to come back", func() error {
		services, err := d.API.List(ctxOf(t))
		if err == nil {
			if be := services[0].Backends[0]; be.Active+be.Inactive > 0 {
				err = fmt.Errorf("%d connections are left", be.Active+be.Inactive)
			}
		}
		return err
	})
	if opened := clients.come(t, 1024, 1024+crowd, time.Minute); opened != crowd {
		t.Errorf("%d of %d connections were opened after the others had gone", opened, crowd)
	}
	clients.leave()
	finish(t, b, d)
}

// crowdOf is connections from one client address.
type crowdOf struct {
	bed    *testbed.Bed
	target string
	local  netip.Addr

	mu   sync.Mutex
	open []net.Conn
}

// come opens a connection from each local port from first to below end, and says how many came about.
func (c *crowdOf) come(t *testing.T, first, end int, patience time.Duration) int {
	ctx, cancel := context.WithTimeout(ctxOf(t), patience)
	defer cancel()
	before := len(c.open)
	var next atomic.Int64
	next.Store(int64(first))
	var dialling sync.WaitGroup
	for range 64 {
		dialling.Go(func() {
			for {
				port := int(next.Add(1)) - 1
				if port >= end || ctx.Err() != nil {
					return
				}
				conn, err := c.bed.Client.DialFrom(ctx, "tcp", netip.AddrPortFrom(c.local, uint16(port)).String(), c.target)
				if err != nil {
					continue
				}
				c.mu.Lock()
				c.open = append(c.open, conn)
				c.mu.Unlock()
			}
		})
	}
	dialling.Wait()
	return len(c.open) - before
}

// broken counts the connections that are no more.
func (c *crowdOf) broken() (n int) {
	var one [1]byte
	for _, conn := range c.open {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err == nil {
			err = raw.Read(func(fd uintptr) bool {
				var got int
				if got, _, err = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); got == 0 && err == nil {
					err = net.ErrClosed
				}
				return true
			})
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			n++
		}
	}
	return n
}

// leave ends all connections by RST, so that no port waits for the end of anything.
func (c *crowdOf) leave() {
	for _, conn := range c.open {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	c.open = nil
}
