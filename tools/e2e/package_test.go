package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/tools/e2e/testbed"
	"sluice/tools/tidy"
)

// inCopy runs a script in a copy of this machine's root that vanishes with its processes, with a
// loopback of its own as the only network: $1 is a directory, $2 a package, $3 the script.
const inCopy = `set -eu
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cp "$2" "$1/root/sluice.deb"
cd "$1/root"
rm -rf etc/sluice var/lib/sluice run/sluice
mount -t proc proc proc
mount -t tmpfs none run
mount -t tmpfs none tmp
mount --rbind /dev dev
ip link set lo up
exec chroot . sh -euc "$3"
`

// install does what an operator does with the package. Lines of its output that begin with "=="
// show its progress.
const install = `
export DEBIAN_FRONTEND=noninteractive
install() { dpkg --force-unsafe-io --force-confold -i /sluice.deb >/tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }; }
as() { exec setpriv --reuid=sluice --regid=sluice --clear-groups --no-new-privs \
	--bounding-set=-all,$CAPS --inh-caps=-all,$CAPS --ambient-caps=-all,$CAPS "$@"; }
! getent passwd sluice || exit 1
install
echo "== installed"
dpkg -V sluice
getent passwd sluice
stat -c '%A %U:%G %n' /etc/sluice /etc/sluice/sluice.toml
sluice version
sluice check
for page in man8/sluice.8 man8/sluice-run.8 man8/sluice-drain.8 man8/pktgen.8 man8/pktgen-search.8 man5/sluice.toml.5; do
	gzip -dc /usr/share/man/$page.gz | grep -q '^.TH'
done
bash -c '. /usr/share/bash-completion/completions/sluice; complete -p sluice'
ls /usr/share/sluice /usr/share/zsh/vendor-completions /usr/share/fish/vendor_completions.d
echo "== verified" $(systemd-analyze verify --man=$(command -v man >/dev/null && echo yes || echo no) /usr/lib/systemd/system/sluice.service 2>&1)

mkdir -m 755 /run/sluice
mkdir -m 700 /var/lib/sluice
chown sluice: /run/sluice /var/lib/sluice
as sluice run 2>/tmp/log &
daemon=$!
timeout 20 sh -c 'until grep -q ready /tmp/log; do sleep 0.1; done' || { cat /tmp/log; exit 1; }
echo "== ready"
(as sluice status)
(as sluice reload)
sluice __complete drain '' 2>/dev/null
sed 's/^service.*/&  # mine/' /etc/sluice/sluice.toml >/tmp/mine.toml
chmod 644 /tmp/mine.toml
(as sluice apply /tmp/mine.toml)
(as sluice rollback)
(as sluice apply /tmp/mine.toml)
install
echo "== upgraded"
(as sluice status)
grep 'mine' /etc/sluice/sluice.toml
kill $daemon
wait $daemon
dpkg --remove sluice >/dev/null 2>&1
echo "== removed"
ls /etc/sluice/sluice.toml
! test -e /usr/sbin/sluice
dpkg --purge sluice >/dev/null 2>&1
! test -e /etc/sluice
! test -e /var/lib/sluice
echo "== purged"
`

// TestPackage: the Debian package has all files of Sluice, and the daemon starts on a machine that
// installs it.
func TestPackage(t *testing.T) {
	needRoot(t)
	make := exec.Command("make", "--no-print-directory", "deb", "VERSION=0.0.1")
	make.Dir = "../.."
	output, err := make.CombinedOutput()
	if err != nil {
		t.Fatalf("make deb: %v\n%s", err, output)
	}
	debs, err := filepath.Glob("../../bin/sluice_0.0.1_*.deb")
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages are %v (%v)", debs, err)
	}
	t.Cleanup(func() { os.Remove(debs[0]) })
	dir, err := testbed.TempDir("package")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	unpacked := t.TempDir()
	if output, err := exec.Command("dpkg-deb", "-x", debs[0], unpacked).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, broken := range tidy.Links(os.DirFS(filepath.Join(unpacked, "usr/share/doc/sluice"))) {
		t.Error("in the package:", broken)
	}
	names, _ := capabilities(t)
	box := exec.CommandContext(ctxOf(t), "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", inCopy, "sh", dir, debs[0], install)
	box.Env = append(os.Environ(), "CAPS=+"+strings.Join(names, ",+"))
	output, err = box.CombinedOutput()
	if err != nil {
		t.Fatalf("the package does not do what it should: %v\n%s", err, output)
	}
	for _, want := range []string{
		"Sluice load balancer:/var/lib/sluice:/usr/sbin/nologin", "drwxrws--- root:sluice /etc/sluice\n", "-rw-r----- root:sluice /etc/sluice/sluice.toml\n",
		"sluice 0.0.1 (", "valid: ports=0 services=0", "complete -o default -F __start_sluice sluice", "sluice-alerts.yml", "sluice-dashboard.json", "_sluice", "sluice.fish",
		"== verified\n", "== ready\nversion        0.0.1", "== upgraded\nversion        0.0.1", "service = []  # mine", "== removed\n/etc/sluice/sluice.toml", "== purged\n",
	} {
		if !strings.Contains(string(output), want) {
			t.Errorf("%q is not in the output", want)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", output)
	}
}
