package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// systemdProgram is part of Debian's package systemd.
const systemdProgram = "/usr/lib/systemd/systemd"

// boot runs systemd as the first process of a PID namespace, on a copy of this machine's root that
// vanishes with it. $1 is a directory with files for this root. It has control groups of
// its own in each hierarchy, because systemd moves all processes that it finds at the root of one.
// SIGTERM ends it.
const boot = `set -eu
files=$1 dir=$1/boot group=sluice-e2e.$$
mkdir "$dir"
mount -t tmpfs none "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root" "$dir/groups"
mine=$(cat /proc/self/cgroup)
each() {
	while IFS=: read -r number controllers path; do
		at=$dir/groups/$number
		"$1"
	done <<-END
		$mine
	END
}
enter() {
	mkdir "$at"
	if [ "$number" = 0 ]; then mount -t cgroup2 none "$at"; else mount -t cgroup -o "$controllers" none "$at"; fi
	mkdir "$at$path/$group"
	for file in cpuset.cpus cpuset.mems; do
		[ ! -e "$at$path/$file" ] || cat "$at$path/$file" >"$at$path/$group/$file"
	done
	echo $$ >"$at$path/$group/cgroup.procs"
}
leave() {
	echo $$ >"$at$path/cgroup.procs"
	for try in 1 2 3 4 5 6 7 8 9 10; do
		find "$at$path/$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
		[ -e "$at$path/$group" ] || break
	done
}
each enter
if grep -v "/$group\$" /proc/self/cgroup; then
	echo "not in a control group of its own"
	each leave
	exit 1
fi
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cp -r "$files/copy/." "$dir/root/"
cat "$files/passwd" >>"$dir/root/etc/passwd"
cat "$files/group" >>"$dir/root/etc/group"
unshare --cgroup --mount --pid --fork --kill-child sh -euc '
	cd "$1/root"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t bpf -o mode=0700 bpf sys/fs/bpf
	mount -t tmpfs none run
	mount -t tmpfs none tmp
	mount --rbind /dev dev
	while IFS=: read -r number controllers path; do
		case $number:$controllers in
		*:name=systemd)
			mount -t tmpfs none sys/fs/cgroup
			mkdir sys/fs/cgroup/systemd
			mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd ;;
		esac
	done </proc/self/cgroup
	mountpoint -q sys/fs/cgroup || mount -t cgroup2 cgroup2 sys/fs/cgroup
	chown 64123:64123 etc/sluice etc/sluice/sluice.toml
	container=lab exec chroot . /usr/lib/systemd/systemd --system --unit=sluice.service --log-target=console --log-level=notice
' sh "$dir" &
child=$!
trap 'kill -9 $child' TERM
wait $child || true
wait $child || true
each leave
`

// unit is the unit of the package under a systemd of its own.
type unit struct {
	*testbed.Daemon // Process is boot; its end is not the daemon's
	bed             *testbed.Bed
	pid             int // of systemd
	config          string
}

// startUnit boots systemd with the unit in the balancer's namespace, and waits until the daemon is
// ready. The test's end stops all of it.
func startUnit(t *testing.T, b *testbed.Bed, cfg testbed.Config) *unit {
	t.Helper()
	if _, err := os.Stat(systemdProgram); err != nil {
		t.Fatalf("the unit is tested under systemd: apt-get install systemd: %v", err)
	}
	dir, err := testbed.TempDir("systemd")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg.API.Socket, cfg.Engine.StateDir = "/run/sluice/sluice.sock", "/var/lib/sluice"
	text, err := os.ReadFile("../../cmd/sluice/sluice.service")
	must(t, err)
	// The rest of a system is not there, and no journal.
	alone := strings.NewReplacer("After=network-online.target", "DefaultDependencies=no", "Wants=network-online.target\n", "",
		"[Service]\n", "[Service]\nStandardError=append:/var/log/sluice.log\n").Replace(string(text))
	program, err := os.ReadFile(sluice)
	must(t, err)
	for name, content := range map[string][]byte{
		"copy/etc/systemd/system/sluice.service": []byte(alone),
		"copy/etc/sluice/sluice.toml":            []byte(cfg.String()),
		"copy/usr/sbin/sluice":                   program,
		"passwd":                                 []byte("sluice:x:64123:64123::/:/usr/sbin/nologin\n"),
		"group":                                  []byte("sluice:x:64123:\n"),
	} {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, content, 0o755))
	}
	p, err := b.Balancer.Start(exec.Command("sh", "-c", boot, "sh", dir))
	must(t, err)
	u := &unit{Daemon: &testbed.Daemon{Process: p}, bed: b}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(u.path("/var/log/sluice.log"))
			state, _ := u.systemctl("status", "sluice")
			t.Logf("systemd said:\n%s\nthe daemon said:\n%s\nthe unit:\n%s", p.Output(), log, state)
		}
		must(t, p.Stop(waitLimit))
	})
	poll(t, "systemd runs", func() error { return u.find() })
	u.config = u.path("/etc/sluice/sluice.toml")
	u.Socket = u.path(cfg.API.Socket)
	u.API = api.NewClient(u.Socket)
	poll(t, "the unit is ready", func() error {
		if state, err := u.systemctl("is-active", "sluice"); state != "active" {
			return errors.Join(fmt.Errorf("it is %s", state), err)
		}
		return nil
	})
	return u
}

// find finds systemd among the processes of boot: it is the one with the number 1 inside.
func (u *unit) find() error {
	children, err := testbed.Children()
	for _, pid := range children {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if bytes.Contains(status, fmt.Appendf(nil, "NSpid:\t%d\t1\n", pid)) && strings.HasSuffix(exe, systemdProgram) {
			u.pid = pid
			return err
		}
	}
	return errors.Join(err, errors.New("it is not there"))
}

// path returns the path of a file of the copy.
func (u *unit) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", u.pid, name) }

// inside runs a program beside the unit, and returns what it prints.
func (u *unit) inside(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", fmt.Sprint(u.pid), "--mount", "--pid", "--net", "--root", "--wd"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

func (u *unit) systemctl(args ...string) (string, error) {
	return u.inside(append([]string{"systemctl", "--no-pager"}, args...)...)
}

// TestSystemd: the unit under a real systemd. Connections of all modes outlive the death of the
// daemon, again and again; and with on_stop = "drop" the XDP programs outlive a planned end.
func TestSystemd(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-systemd", Queues: 2})
	cfg := config(t, testbed.Paths...)
	u := startUnit(t, b, cfg)
	held := holdAll(t, b, testbed.Paths, 2)
	datagrams, err := b.Stream(ctxOf(t), nat4.UDP(), time.Millisecond)
	must(t, err)
	for round := range 2 {
		moves(t, held...)
		output, err := u.systemctl("kill", "--signal=KILL", "sluice")
		if err != nil {
			t.Fatalf("systemctl kill: %v: %s", err, output)
		}
		poll(t, "the daemon runs again", func() error {
			restarts, err := u.systemctl("show", "--property=NRestarts", "--value", "sluice")
			if err != nil || restarts != fmt.Sprint(round+1) {
				return errors.Join(fmt.Errorf("%s restarts", restarts), err)
			}
			status, err := u.API.Status(ctxOf(t))
			if err != nil {
				return err
			}
			if took := status.Takeover; took == nil || took.Queues != 4 || took.Connections < len(held) || took.Error != "" {
				return fmt.Errorf("status says that %+v was taken over, want four sockets and %d connections", took, len(held))
			}
			return nil
		})
		counts := datagrams.Counts()
		t.Logf("the longest time between two datagrams is %v, of %d %d were not answered", counts.Longest, counts.Sent, counts.Sent-counts.Answered)
	}
	moves(t, held...)
	datagrams.End()
	log, err := os.ReadFile(u.path("/var/log/sluice.log"))
	must(t, err)
	t.Logf("%s", log)

	cfg.Engine.OnStop, cfg.API.Socket, cfg.Engine.StateDir = "drop", "/run/sluice/sluice.sock", "/var/lib/sluice"
	must(t, os.WriteFile(u.config, []byte(cfg.String()), 0o644))
	for _, verb := range []string{"restart", "stop"} {
		if output, err := u.systemctl(verb, "sluice"); err != nil {
			t.Fatalf("systemctl %s: %v: %s", verb, err, output)
		}
		if verb == "restart" {
			if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
				t.Errorf("3 requests went %s: %v", &s, s.Errors)
			}
		}
	}
	left, err := b.XDP()
	if must(t, err); len(left) != 2 {
		t.Errorf("after the end with on_stop = \"drop\" the XDP programs are %v", maps.Clone(left))
	}
	if output, err := u.inside("sluice", "release"); err != nil {
		t.Errorf("sluice release: %v: %s", err, output)
	}
	must(t, b.AwaitNoXDP(ctxOf(t), left))
}
