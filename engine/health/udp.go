package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// probeUDP sends a datagram. UDP has no handshake, so unless an answer is expected silence is
// success, and the probe fails only by the ICMP error of a closed port or of a missing route. Each
// such probe takes its whole timeout. A machine that is switched off sends nothing either, so a
// service that always answers some request should be checked with Send and Expect.
func probeUDP(ctx context.Context, c Check) error {
	conn, err := dial(ctx, "udp", c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn.Conn, c.Send); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.Expect == "" && !errors.Is(context.Cause(ctx), context.Canceled):
		return nil
	case err != nil:
		return err
	case !strings.HasPrefix(string(answer[:n]), c.Expect):
		return fmt.Errorf("the answer begins with %q, expected %q", clip(answer[:n]), clip([]byte(c.Expect)))
	}
	return nil
}
