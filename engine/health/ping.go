package health

import (
	"context"
	"errors"
	"fmt"
	"os"

	probing "github.com/prometheus-community/pro-bing"
)

// probePing sends one echo request (RFC 792, RFC 4443) from a raw socket, which needs CAP_NET_RAW.
func probePing(ctx context.Context, c Check) error {
	pinger := probing.New(c.Target.Addr().String())
	pinger.SetPrivileged(true)
	pinger.SetLogger(probing.NoopLogger{})
	pinger.Count = 1
	pinger.RecordRtts = false
	pinger.Timeout = c.Timeout
	err := pinger.RunWithContext(ctx)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot open a raw socket, which needs CAP_NET_RAW: %w", err)
	case err != nil:
		return err
	case pinger.Statistics().PacketsRecv == 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}
