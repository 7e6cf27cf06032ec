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

	_ = r.SetReadDeadline(time.Now().Add(patience))
	scanner, lines := bufio.NewScanner(r), uint64(0)
	for scanner.Scan() && strings.Contains(scanner.Text(), `msg="weight set"`) {
		lines++
	}
	if want := fmt.Sprintf(`msg="%d log lines were dropped" event=log_dropped count=%d`, dropped, dropped); !strings.Contains(scanner.Text(), want) {
		t.Errorf("after %d lines came %q, want %q", lines, scanner.Text(), want)
	}
	if lines+dropped != logged {
		t.Errorf("%d lines were written and %d dropped of %d", lines, dropped, logged)
	}
	log.Info("reloaded", "event", "config_reloaded")
	if !scanner.Scan() || !strings.Contains(scanner.Text(), "msg=reloaded") {
		t.Errorf("after the notice came %q", scanner.Text())
	}
	if told.Load() != 1 {
		t.Errorf("the follower was called %d times", told.Load())
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
		log.Flush(patience)
	}
	if n := log.Counts().Dropped; n != 3 {
		t.Errorf("%d dropped", n)
	}
	out.err.Store(nil)
	log.Info("reloaded", "event", "config_reloaded")
	log.Info("reloaded", "event", "config_reloaded")
	log.Flush(patience)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"msg":"3 log lines were dropped","event":"log_dropped","count":3`) {
		t.Errorf("written:\n%s", out.String())
	}
	if n := log.Counts().Dropped; n != 3 {
		t.Errorf("%d dropped", n)
	}
}
