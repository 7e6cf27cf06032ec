package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// userID belongs to no user: the daemon of the package has a user of its own, which this machine
// may not have.
const userID = 64747

// asUnit runs the program as the systemd unit does: as a user of its own that cannot gain
// privileges, with the capabilities of the unit only. All users may open the device for health
// checks, as udev sets it up.
const asUnit = `#!/bin/sh
set -e
[ "$INSIDE" ] || INSIDE=1 exec unshare --mount "$0" "$@"
[ "$1" != run ] || chown -R %[1]d "$(dirname "$3")"
mount -t tmpfs -o mode=755 none /dev/net
mknod -m 666 /dev/net/tun c 10 200
exec setpriv --reuid=%[1]d --regid=%[1]d --clear-groups --no-new-privs \
	--bounding-set=-all,%[2]s --inh-caps=-all,%[2]s --ambient-caps=-all,%[2]s %[3]s "$@"
`

// capabilities returns the capabilities of the unit, by name and as the kernel shows them.
func capabilities(t *testing.T) (names []string, bits uint64) {
	t.Helper()
	unit, err := os.ReadFile("../../cmd/sluice/sluice.service")
	must(t, err)
	var lists []string
	for _, key := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		lists = append(lists, regexp.MustCompile(`(?m)^` + key + `=(.+)$`).FindStringSubmatch(string(unit))[1])
	}
	if lists[0] != lists[1] {
		t.Fatalf("the unit's sets differ: %q", lists)
	}
	known := map[string]uint{"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_BPF": 39, "CAP_IPC_LOCK": 14}
	for _, name := range strings.Fields(lists[0]) {
		bit, ok := known[name]
		if !ok {
			t.Fatalf("the unit wants %s: does it need that?", name)
		}
		bits |= 1 << bit
		names = append(names, strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	return names, bits
}

// TestOwnUser: with the unit's capabilities and nothing else traffic flows through AF_XDP, checks
// take their path, and commands work.
func TestOwnUser(t *testing.T) {
	needRoot(t)
	names, bits := capabilities(t)
	dir, err := testbed.TempDir("user")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	program, script := filepath.Join(dir, "sluice"), filepath.Join(dir, "as-unit")
	must(t, os.Link(sluice, program))
	must(t, os.WriteFile(script, fmt.Appendf(nil, asUnit, userID, "+"+strings.Join(names, ",+"), program), 0o755))

	b, err := testbed.New(ctxOf(t), testbed.Options{Name: "e2e-user", Sluice: script})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	d := start(t, b, probed(t, nat4, dr4, tun6))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process.PID()))
	must(t, err)
	for _, line := range []string{
		fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", userID), "NoNewPrivs:\t1\n",
		fmt.Sprintf("CapEff:\t%016x\n", bits), fmt.Sprintf("CapBnd:\t%016x\n", bits),
	} {
		if !strings.Contains(string(status), line) {
			t.Errorf("%q is not in\n%s", line, status)
		}
	}
	awaitSecond(t, d, "", none)
	alarms, err := d.API.Alarms(ctxOf(t))
	must(t, err)
	for _, a := range alarms {
		t.Errorf("alarm %+v", a)
	}
	for _, p := range []testbed.Path{nat4, dr4, tun6} {
		wantSpread(t, b.Ask(ctxOf(t), p.URL(), 6), [3]int{2, 2, 2})
		must(t, b.Download(ctxOf(t), p.URL(), 1<<20, 1))
	}
	must(t, b.Backends[1].Kill())
	awaitSecond(t, d, refused, func(string) bool { return true })
	must(t, b.Backends[1].Start(ctxOf(t)))
	awaitSecond(t, d, "", none)
	for _, verb := range [][]string{{"reload"}, {"drain", "web-" + nat4.String(), b.Backends[0].Addr(4).String()}, {"status"}} {
		result, err := b.Run(ctxOf(t), append(verb, "--socket", d.Socket)...)
		must(t, err)
		if result.Code != 0 {
			t.Errorf("sluice %s: %+v", strings.Join(verb, " "), result)
		}
	}
	services, err := d.API.List(ctxOf(t))
	must(t, err)
	if s := services[0].Backends[0].State; s != api.StateDrain {
		t.Errorf("drained backend is %s", s)
	}
}
