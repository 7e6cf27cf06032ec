package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// A journal that hangs accepts what fits into its socket, and reads nothing. It is the daemon's
// stderr, as systemd passes it, or gets datagrams with fields. The daemon must not notice, but for
// lines that are dropped and counted.

// chatty returns a configuration of which a reload can log many lines.
func chatty(t *testing.T) testbed.Config {
	cfg := config(t, nat4)
	for port := range 50 {
		s := cfg.Services[0]
		s.Name, s.Port, s.Backends = fmt.Sprint("web-", port), 1000+port, slices.Clone(s.Backends)
		cfg.Services = append(cfg.Services, s)
	}
	return cfg
}

// chatter makes the daemon log some hundred lines.
func chatter(t *testing.T, d *testbed.Daemon, cfg testbed.Config, turn int) {
	t.Helper()
	weight := 2 + turn
	for i := range cfg.Services {
		cfg.Services[i].Persistence = fmt.Sprintf("%ds", 60+turn)
		for j := range cfg.Services[i].Backends {
			cfg.Services[i].Backends[j].Weight = &weight
		}
	}
	must(t, d.Write(cfg))
	_, err := d.API.Reload(ctxOf(t), api.ReloadOptions{})
	must(t, err)
}

// overflow makes the daemon log until lines are dropped.
func overflow(t *testing.T, d *testbed.Daemon, cfg testbed.Config) {
	t.Helper()
	turn := 0
	for limit := time.Now().Add(4 * waitLimit); dropped(t, d) == 0; turn++ {
		if time.Now().After(limit) {
			t.Fatalf("no line was dropped in %d reloads", turn)
		}
		chatter(t, d, cfg, turn)
	}
	t.Logf("%d reloads", turn)
}

// dropped returns how many lines the daemon has dropped.
func dropped(t *testing.T, d *testbed.Daemon) (n int) {
	t.Helper()
	metrics, err := get(d, "/metrics")
	must(t, err)
	_, after, _ := strings.Cut(metrics, "\nsluice_log_dropped_total ")
	_, err = fmt.Sscan(after, &n)
	must(t, err)
	return n
}

// answersAll checks that verbs succeed.
func answersAll(t *testing.T, d *testbed.Daemon) {
	t.Helper()
	for _, verb := range []string{"list", "stats", "conns", "status", "reload", "top --once"} {
		_, err := d.Verb(ctxOf(t), strings.Fields(verb)...)
		must(t, err)
	}
}

// ends waits for the end of a daemon.
func ends(t *testing.T, d *testbed.Daemon) {
	t.Helper()
	began := time.Now()
	select {
	case <-d.Process.Ended():
		t.Logf("it ended within %v", time.Since(began).Round(time.Millisecond))
	case <-ctxOf(t).Done():
		t.Fatal("the daemon does not stop")
	}
}

// TestJournalHangs: the journal is a stream that is not read.
func TestJournalHangs(t *testing.T) {
	b := bed(t)
	journal, err := net.Listen("unix", filepath.Join(t.TempDir(), "stdout"))
	must(t, err)
	defer journal.Close()
	stderr, err := net.Dial("unix", journal.Addr().String())
	must(t, err)
	defer stderr.Close()
	stream, err := journal.Accept()
	must(t, err)
	defer stream.Close()
	file, err := stderr.(*net.UnixConn).File()
	must(t, err)
	defer file.Close()
	cfg := chatty(t)
	d := launchTo(t, b, cfg, file)
	overflow(t, d, cfg)
	answersAll(t, d)

	var log strings.Builder
	must(t, stream.SetReadDeadline(time.Now().Add(waitLimit)))
	for buf := make([]byte, 1<<16); !strings.Contains(log.String(), " log lines were dropped"); {
		n, err := stream.Read(buf)
		if err != nil {
			t.Fatalf("the log does not say how many lines were dropped: %v; its end: %.300s", err, log.String()[max(0, log.Len()-300):])
		}
		log.Write(buf[:n])
	}

	for turn := range 10 { // more than fits into the socket
		chatter(t, d, cfg, turn)
	}
	must(t, d.Process.Signal(syscall.SIGTERM))
	ends(t, d)
	must(t, d.Process.Wait())

	d = launchTo(t, b, cfg, file)
	must(t, d.Process.Signal(syscall.SIGTERM))
	must(t, d.Process.Signal(syscall.SIGTERM))
	ends(t, d)
}

// withJournal runs the program with a journal in place of the machine's.
const withJournal = `#!/bin/sh
set -e
[ "$INSIDE" ] || INSIDE=1 exec unshare --mount "$0" "$@"
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
ln -s %[1]s /run/systemd/journal/socket
if [ "$1" = run ]; then exec %[2]s "$@" --log-format journal; fi
exec %[2]s "$@"
`

// TestJournalHangsOnFields: the journal gets datagrams and does not read them.
func TestJournalHangsOnFields(t *testing.T) {
	needRoot(t)
	dir, err := testbed.TempDir("journal")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, script := filepath.Join(dir, "journal"), filepath.Join(dir, "with-journal")
	journal, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer journal.Close()
	must(t, os.WriteFile(script, fmt.Appendf(nil, withJournal, socket, sluice), 0o755))
	b, err := testbed.New(ctxOf(t), testbed.Options{Name: "e2e-journal", Sluice: script})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	cfg := chatty(t)
	d := launchTo(t, b, cfg, nil)
	overflow(t, d, cfg)
	answersAll(t, d)

	must(t, journal.SetReadDeadline(time.Now().Add(waitLimit)))
	var record string
	for buf := make([]byte, 1<<16); !strings.Contains(record, " log lines were dropped"); record = string(buf) {
		clear(buf)
		if _, err := journal.Read(buf); err != nil {
			t.Fatalf("the journal does not get how many lines were dropped: %v; the last record: %.300s", err, record)
		}
	}
	chatter(t, d, cfg, 0)
	must(t, d.Process.Signal(syscall.SIGTERM))
	ends(t, d)
	must(t, d.Process.Wait())
}
