package api_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/api"
)

// TestNotAnswering: the kernel accepts connections for a daemon that does nothing. Requests and the
// start of a trace end, with an error that says so.
func TestNotAnswering(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client := api.NewClient(socket)
	client.Timeout = 300 * time.Millisecond
	_, list := client.List(t.Context())
	_, reload := client.Reload(t.Context(), api.ReloadOptions{})
	_, trace := client.Trace(t.Context(), api.TraceQuery{}, func(api.TraceEvent) error { return nil })
	for what, err := range map[string]error{"list": list, "reload": reload, "trace": trace} {
		var none *api.NotAnswering
		if !errors.As(err, &none) || none.PID != os.Getpid() || none.For != client.Timeout {
			t.Errorf("%s: %v", what, err)
		}
		want := "the daemon at " + socket + " accepted the connection but has answered nothing for 300ms: it is starting, or it hangs"
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", what, err, want)
		}
	}
}

// TestFullBacklog: nothing accepts the connections that wait, and there is no space for more.
func TestFullBacklog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 16 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	if _, err := api.NewClient(socket).List(t.Context()); err == nil || !strings.Contains(err.Error(), "accepts no connections") {
		t.Error(err)
	}
}

// TestLongRequest: a request that takes longer than the client's timeout is not given up while the
// daemon answers others.
func TestLongRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("the client's timeout is 3 s")
	}
	const enough = 4 // a probe a second
	var probes atomic.Int32
	work := make(chan struct{})
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodHead:
			<-work
			fmt.Fprint(w, `{"changes": ["done"]}`)
		case probes.Add(1) == enough:
			close(work)
		}
	})}
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Close()
	result, err := api.NewClient(listener.Addr().String()).Reload(t.Context(), api.ReloadOptions{})
	if err != nil || len(result.Changes) != 1 {
		t.Error(result, err)
	}
}
