package eventlog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/engine/api"
	"sluice/engine/eventlog"
	"sluice/tools/reference"
)

// timeout is how long a test waits for the log to be written.
const timeout = 10 * time.Second

func TestFormats(t *testing.T) {
	for format, want := range map[string]string{
		"text": `level=WARN msg="backend changed state" event=backend_down service=web why="no answer"`,
		"auto": `level=WARN msg="backend changed state" event=backend_down service=web why="no answer"`,
		"json": `"level":"WARN","msg":"backend changed state","event":"backend_down","service":"web","why":"no answer"`,
	} {
		var out bytes.Buffer
		log, err := eventlog.New(&out, slog.LevelInfo, format)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("not seen")
		log.Warn("backend changed state", "event", "backend_down", "service", "web", "why", "no answer")
		log.Flush(timeout)
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "not seen") {
			t.Errorf("%s: %s", format, out.String())
		}
		if format == "json" && !json.Valid(out.Bytes()) {
			t.Errorf("not JSON: %s", out.String())
		}
	}
	if _, err := eventlog.New(&bytes.Buffer{}, slog.LevelInfo, "xml"); err == nil || !strings.Contains(err.Error(), "must be one of auto, text, json, journal") {
		t.Error(err)
	}
}

// TestJournalThatIsNotThere checks that records meant for a missing journal are written as text.
func TestJournalThatIsNotThere(t *testing.T) {
	const socket = "/run/systemd/journal/socket"
	if _, err := os.Stat(socket); err == nil {
		t.Logf("%s is there: not tried", socket)
		return
	}
	if _, err := eventlog.New(&bytes.Buffer{}, slog.LevelInfo, eventlog.Journal); err == nil || !strings.Contains(err.Error(), socket) {
		t.Error("a journal that is not there was taken for one:", err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(file.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	log, err := eventlog.New(file, slog.LevelInfo, eventlog.Auto)
	if err != nil {
		t.Fatal(err)
	}
	log.With("service", "web").Warn("changed", "event", "backend_down")
	log.Flush(timeout)
	if text, _ := os.ReadFile(file.Name()); !strings.Contains(string(text), "msg=changed service=web event=backend_down") {
		t.Errorf("lost: %q", text)
	}
}

func TestEventsAreToldAndCounted(t *testing.T) {
	log, err := eventlog.New(&bytes.Buffer{}, slog.LevelInfo, eventlog.Text)
	if err != nil {
		t.Fatal(err)
	}
	var followed []api.Event
	log.Follow(func(e api.Event) { followed = append(followed, e) })
	log.Info("no event")
	log.With("service", "web").Warn("changed", "event", "backend_down", "after", 3*time.Second)
	if len(followed) != 1 || followed[0].Event != "backend_down" || followed[0].Level != "WARN" || followed[0].Message != "changed" ||
		followed[0].Fields["service"] != "web" || followed[0].Fields["after"] != "3s" || followed[0].Fields["event"] != "" {
		t.Errorf("%+v", followed)
	}
	counts := log.Counts()
	if counts.Events["backend_down"] != 1 || counts.Events["backend_up"] != 0 || len(counts.Events) != len(eventlog.Events) || counts.Suppressed != 0 || counts.Dropped != 0 {
		t.Error(counts)
	}
}

// TestLimit checks that one noisy backend is limited, others are not, and the number of suppressed
// lines is logged at the end of the window.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		log, err := eventlog.New(&out, slog.LevelInfo, eventlog.Text)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			log.Warn("changed", "event", "backend_down", "service", "web", "backend", "noisy")
			log.Warn("trouble with netlink")
		}
		log.Warn("changed", "event", "backend_down", "service", "web", "backend", "other")
		log.Flush(timeout)
		if n := strings.Count(out.String(), "backend=noisy"); n != 10 {
			t.Errorf("%d lines about the noisy one", n)
		}
		if n := strings.Count(out.String(), "netlink"); n != 10 {
			t.Errorf("%d lines without an event", n)
		}
		if !strings.Contains(out.String(), "backend=other") {
			t.Error("the other one was not heard")
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		for _, want := range []string{`msg="40 more suppressed" event=suppressed of="backend_down web noisy" count=40`, `of="trouble with netlink" count=40`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %s in\n%s", want, out.String())
			}
		}
		log.Warn("changed", "event", "backend_down", "service", "web", "backend", "noisy")
		log.Flush(timeout)
		if n := strings.Count(out.String(), "backend=noisy"); n != 11 {
			t.Error("silent for ever:", n)
		}
		if counts := log.Counts(); counts.Events["backend_down"] != 52 || counts.Suppressed != 80 {
			t.Error(counts)
		}
	})
}

// TestLimitPerReason checks that thousands of backends that fail at once do not flood the log.
func TestLimitPerReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		log, err := eventlog.New(&out, slog.LevelInfo, eventlog.Text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20_000 {
			log.Warn("changed", "event", "backend_down", "service", "web", "backend", fmt.Sprint(i))
		}
		log.Flush(timeout)
		if n := strings.Count(out.String(), "\n"); n < 200 || n > 1000 {
			t.Errorf("%d lines", n)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if !strings.Contains(out.String(), "more suppressed") {
			t.Error("the follower was not called")
		}
	})
}

// TestEveryEventIsListed checks that every event that the daemon logs is in Events.
func TestEveryEventIsListed(t *testing.T) {
	known := map[string]bool{}
	for _, e := range eventlog.Events {
		if known[e.ID] {
			t.Error(e.ID, "is there twice")
		}
		known[e.ID] = true
	}
	for _, state := range []string{api.StateUp, api.StateDown, api.StateDrain, api.StateStandby} {
		if !known["backend_"+state] {
			t.Error("no event for the state", state)
		}
	}
	used := map[string]bool{eventlog.Suppressed: true, eventlog.Dropped: true, "backend_up": true, "backend_down": true, "backend_drain": true, "backend_standby": true,
		"access_refused": true} // an argument of auditLog.refused
	literal := regexp.MustCompile(`"event", "([a-z_]+[a-z])"`)
	for _, root := range []string{"../../engine", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, m := range literal.FindAllSubmatch(data, -1) {
				used[string(m[1])] = true
				if !known[string(m[1])] {
					t.Errorf("%s: event %s is not in eventlog.Events", path, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for id := range known {
		if !used[id] {
			t.Error(id, "is listed, but nothing logs it")
		}
	}
}

// TestReference checks that README.md is current.
func TestReference(t *testing.T) { reference.Rest(t, markdown()) }

// lockedBuffer may be written to by timers.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// markdown returns Events in Markdown. README.md ends with it.
func markdown() string {
	var b strings.Builder
	b.WriteString("| event | when |\n|---|---|\n")
	for _, e := range eventlog.Events {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.ID, e.About)
	}
	return b.String()
}
