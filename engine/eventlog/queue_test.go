package eventlog_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/eventlog"
)

// TestPipeWithoutReader checks that a log into a full pipe blocks nothing, and that every line is
// either written or counted in the line that tells how many were dropped.
func TestPipeWithoutReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	log, err := eventlog.New(w, slog.LevelInfo, eventlog.Text)
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Uint64
	log.Follow(func(e api.Event) {
		if e.Event == eventlog.Dropped {
			told.Add(1)
		}
	})
	const logged = 20_000
	for i := range logged {
		log.Info("weight set", "event", "weight_set", "weight", i)
	}
	dropped := log.Counts().Dropped
	if dropped == 0 || dropped >= logged {
		t.Fatalf("%d of %d lines were dropped", dropped, logged)
	}
	log.Flush(time.Millisecond) // gives up: nothing can be written

	_ = r.SetReadDeadline(time.Now().Add(timeout))
	// The writer may have made space for a while before the pipe was full.
	scanner := bufio.NewScanner(r)
	var lines, counted, notices uint64
	for lines+counted < logged && scanner.Scan() {
		if strings.Contains(scanner.Text(), `msg="weight set"`) {
			lines++
			continue
		}
		var n uint64
		_, after, _ := strings.Cut(scanner.Text(), "log lines were dropped\" event=log_dropped count=")
		if _, err := fmt.Sscan(after, &n); err != nil {
			t.Fatalf("after %d lines came %q", lines, scanner.Text())
		}
		counted += n
		notices++
	}
	if lines+counted != logged || counted != dropped {
		t.Errorf("%d lines were written, %d dropped and %d reported as dropped, of %d", lines, dropped, counted, logged)
	}
	log.Info("reloaded", "event", "config_reloaded")
	if !scanner.Scan() || !strings.Contains(scanner.Text(), "msg=reloaded") {
		t.Errorf("after the notice came %q", scanner.Text())
	}
	if told.Load() != notices {
		t.Errorf("the follower was called %d times for %d notices", told.Load(), notices)
	}
}

// broken is an output that fails while it is set.
type broken struct {
	lockedBuffer
	err atomic.Pointer[error]
}

func (b *broken) Write(p []byte) (int, error) {
	if err := b.err.Load(); err != nil {
		return 0, *err
	}
	return b.lockedBuffer.Write(p)
}

// TestOutputThatFails checks that lines that cannot be written are counted, and told when the
// output works again.
func TestOutputThatFails(t *testing.T) {
	var out broken
	log, err := eventlog.New(&out, slog.LevelInfo, eventlog.JSON)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	out.err.Store(&full)
	for range 3 {
		log.Info("reloaded", "event", "config_reloaded")
		log.Flush(timeout)
	}
	if n := log.Counts().Dropped; n != 3 {
		t.Errorf("%d dropped", n)
	}
	out.err.Store(nil)
	log.Info("reloaded", "event", "config_reloaded")
	log.Info("reloaded", "event", "config_reloaded")
	log.Flush(timeout)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"msg":"3 log lines were dropped","event":"log_dropped","count":3`) {
		t.Errorf("written:\n%s", out.String())
	}
	if n := log.Counts().Dropped; n != 3 {
		t.Errorf("%d dropped", n)
	}
}
