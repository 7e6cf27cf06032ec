package netlab_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"sluice/tools/netlab"
)

// TestLoseTCP: an interface that loses every TCP segment loses nothing else, and counts; one that
// loses none passes all.
func TestLoseTCP(t *testing.T) {
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		for _, percent := range []int32{0, 100} {
			t.Run(fmt.Sprintf("%d %% to %s", percent, addr), func(t *testing.T) { loseTCP(t, addr, percent) })
		}
	}
}

func loseTCP(t *testing.T, addr string, percent int32) {
	lab := newLab(t, "lose")
	client, server := newHost(t, lab, "client"), newHost(t, lab, "server")
	must(t, lab.Link(client, "eth0", server, "eth0", netlab.LinkOptions{}))
	must(t, client.Addr("eth0", "10.0.0.1/24", "fd00::1/64"))
	must(t, server.Addr("eth0", "10.0.0.2/24", "fd00::2/64"))
	loss, err := server.LoseTCP("eth0", percent)
	must(t, err)
	endpoint := net.JoinHostPort(addr, "7000")
	l, err := server.Listen("tcp", endpoint)
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	dialled := make(chan error, 1)
	go func() {
		c, err := client.Dial(ctx, "tcp", endpoint)
		if err == nil {
			c.Close()
		}
		dialled <- err
	}()
	if percent > 0 {
		eventually(t, "a segment is lost", func() bool {
			_, lost, err := loss.Counts()
			must(t, err)
			return lost > 0
		})
		cancel()
	}
	select {
	case err := <-dialled:
		if (err == nil) != (percent == 0) {
			t.Errorf("the connection: %v", err)
		}
	case <-time.After(2 * waitLimit):
		t.Error("the connection neither opens nor fails")
	}
	passed, lost, err := loss.Counts()
	must(t, err)
	if (passed > 0) != (percent == 0) || (lost > 0) == (percent == 0) {
		t.Errorf("%d segments passed and %d were lost", passed, lost)
	}
}
