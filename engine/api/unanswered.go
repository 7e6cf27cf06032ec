package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/process"
)

// A daemon that works on a long request answers other ones meanwhile. So while a request takes long
// a Client sends a probe, and gives up if that is not answered either. The time is counted in
// ticks, so that a pause of the whole machine counts as one of them.
const (
	answerTick = 100 * time.Millisecond
	probeAfter = time.Second // without an answer
)

// NotAnswering is the error for a daemon that exists but answers nothing.
type NotAnswering struct {
	Socket string
	For    time.Duration // 0: it does not even accept connections
	PID    int           // of the daemon; 0: unknown
}

func (e *NotAnswering) Error() string {
	text := fmt.Sprintf("the daemon at %s accepted the connection but has answered nothing for %s: ", e.Socket, e.For)
	switch {
	case e.For == 0:
		text = fmt.Sprintf("the daemon at %s accepts no connections, so many wait: ", e.Socket)
	case process.Stopped(e.PID):
		return text + fmt.Sprintf("its process %d is stopped by a signal or a debugger; `kill -CONT %d` ends a stop by a signal", e.PID, e.PID)
	}
	return text + "it is starting, or it hangs: its log may say where; a restart (`systemctl restart sluice`) ends a hang"
}

// impatient returns a context for a request, which ends with a NotAnswering if the daemon answers
// nothing for Timeout. The caller calls done at the end of the request.
func (c *Client) impatient(ctx context.Context) (bounded context.Context, done func()) {
	bounded, cancel := context.WithCancelCause(ctx)
	go c.watch(bounded, c.Timeout, cancel)
	return bounded, func() { cancel(nil) }
}

// watch implements impatient.
func (c *Client) watch(ctx context.Context, timeout time.Duration, giveUp context.CancelCauseFunc) {
	ticker := time.NewTicker(answerTick)
	defer ticker.Stop()
	var answered chan struct{} // of the probe, if there is one
	for silence := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-answered:
			silence, answered = 0, nil
		case <-ticker.C:
			silence += answerTick
		}
		switch {
		case silence >= timeout:
			giveUp(&NotAnswering{c.socket, timeout, int(c.pid.Load())})
			return
		case silence >= probeAfter && answered == nil:
			answered = make(chan struct{})
			go func() { c.probe(ctx); close(answered) }()
		}
	}
}

// probe returns when the daemon answers anything, or cannot be connected to. In the latter case the
// request that is under way finds out by itself.
func (c *Client) probe(ctx context.Context) {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://sluice"+pathOpenAPI, nil)
	if err != nil {
		return
	}
	if response, err := c.http.Do(request); err == nil {
		response.Body.Close()
	}
}

// dial connects to the socket, and notes which process listens on it.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, err
	}
	if raw, err := conn.(*net.UnixConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // its error is that of a closed connection
			if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				c.pid.Store(peer.Pid)
			}
		})
	}
	return conn, nil
}
