package health

import (
	"context"
	"io"
)

// probeTCP opens a connection, sends Send and reads until Expect; a server's greeting needs no
// Send. It closes the connection regularly, with a FIN, so that servers log nothing unusual.
func probeTCP(ctx context.Context, c Check) error {
	conn, err := dial(ctx, "tcp", c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, c.Send); err != nil {
		return err
	}
	return expectPrefix(conn, c.Expect)
}
