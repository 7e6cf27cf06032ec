package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/conf"
	"sluice/engine/api/apitest"
)

const ipvsDump = `-A -t 198.51.100.10:80 -s wlc -p 300
-a -t 198.51.100.10:80 -r 10.0.0.11:8080 -m -w 2
-A -f 7 -s rr
-a -f 7 -r 10.0.0.11:0 -g -w 1
`

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImportIpvsadm(t *testing.T) {
	dump := writeFile(t, "ipvs.rules", ipvsDump)
	out := filepath.Join(t.TempDir(), "sluice.toml")
	code, stdout, stderr := sluice("import", "ipvsadm", dump, "-w", out, "--port", "eth3", "--port", "eth4")
	if code != 0 || stdout != "" {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	for _, want := range []string{dump + ":3: service --fwmark-service 7", dump + ":4: backend 10.0.0.11:0",
		"imported: services=1 backends=1 notes=2", "sluice check --config " + out} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr does not say %q:\n%s", want, stderr)
		}
	}
	cfg, _, err := conf.Load(out, nil)
	if err != nil || len(cfg.Ports) != 2 || cfg.Ports[1].Name != "eth4" {
		t.Fatal(err, cfg)
	}
	if code, _, stderr := sluice("import", "ipvsadm", dump, "-w", out); code != 1 || !strings.Contains(stderr, "--force") {
		t.Errorf("a file was replaced: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := sluice("import", "ipvsadm", dump, "-w", out, "--force"); code != 0 || !strings.Contains(stderr, `[[port]] has the placeholder "eth0"`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if left, _ := filepath.Glob(filepath.Dir(out) + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// and back, without what IPVS alone can do
	code, stdout, stderr = sluice("export", "ipvsadm", "--config", out)
	if want, _, _ := strings.Cut(ipvsDump, "-A -f"); code != 0 || stderr != "" || stdout != want {
		t.Errorf("exit code %d: %s%s", code, stderr, cmp.Diff(want, stdout))
	}
}

func TestExportFromDaemon(t *testing.T) {
	f := apitest.NewFake()
	f.Services[1].Port.Last = f.Services[1].Port.First
	code, stdout, stderr := sluice("export", "ipvsadm", "--socket", serve(t, f))
	want := `-A -t 198.51.100.10:80 -s wlc -p 300
-a -t 198.51.100.10:80 -r 10.0.0.11:8080 -m -w 1
-a -t 198.51.100.10:80 -r 10.0.0.12:8080 -i -w 0
-a -t 198.51.100.10:80 -r 10.0.0.12:8081 -g -w 2
-A -u [2001:db8::10]:8000 -s mh -b mh-fallback
`
	if code != 0 || stdout != want || !strings.Contains(stderr, "no mode fullnat") {
		t.Errorf("exit code %d: %s\n%s", code, cmp.Diff(want, stdout), stderr)
	}
}

// TestImportAsKeepalivedTakesIt checks what keepalived assumes where the file says nothing.
func TestImportAsKeepalivedTakesIt(t *testing.T) {
	text := "virtual_server 10.2.9.9 53 {\nlb_algo rr\nlb_kind DR\npersistence_timeout 0\nreal_server 10.2.0.11 53 {\nDNS_CHECK { connect_timeout 1 }\n}\n}\n"
	code, stdout, stderr := sluice("import", "keepalived", writeFile(t, "k.conf", text))
	if code != 0 || !strings.Contains(stderr, "k.conf:1: virtual_server 10.2.9.9 53: has no protocol: it is udp") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	cfg, _, err := conf.Parse("sluice.toml", []byte(stdout), nil)
	if err != nil || cfg.Services[0].Key.String() != "udp 10.2.9.9:53" || cfg.Services[0].Persistence != 0 {
		t.Errorf("%v\n%s", err, stdout)
	}
}

func TestImportUsage(t *testing.T) {
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{2, []string{"import"}, "ipvsadm"},
		{2, []string{"import", "haproxy", "x"}, "ipvsadm"},
		{2, []string{"import", "ipvsadm"}, "FILE"},
		{1, []string{"import", "ipvsadm", "/nowhere/at/all"}, "/nowhere/at/all"},
		{1, []string{"import", "ipvsadm", writeFile(t, "x", "-A -s rr\n")}, "x:1: names no service"},
		{1, []string{"import", "ipvsadm", writeFile(t, "x", ipvsDump), "-w", "/nowhere/at/all"}, "/nowhere/at"},
		{1, []string{"import", "ipvsadm", writeFile(t, "x", ipvsDump), "--port", "lo"}, "lo carries no client traffic"},
		{2, []string{"export"}, "ipvsadm"},
		{2, []string{"export", "ipvsadm", "--config", "x", "--socket", "y"}, "exclude"},
		{1, []string{"export", "ipvsadm", "--config", "/nowhere/at/all"}, "/nowhere/at/all"},
		{1, []string{"export", "ipvsadm", "--socket", "/nowhere/s"}, "/nowhere/s"},
	} {
		if code, _, stderr := sluice(c.args...); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s", c.args, code, c.code, c.says, stderr)
		}
	}
}

func TestImportKeepalived(t *testing.T) {
	out := filepath.Join(t.TempDir(), "sluice.toml")
	code, _, stderr := sluice("import", "keepalived", "../../conf/keepalived/testdata/keepalived.conf", "-w", out, "--port", "none0")
	if code != 0 || !strings.Contains(stderr, "virtual.d/ldap.conf:10: colour blue") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if code, stdout, stderr := sluice("check", "--config", out); code != 0 || !strings.Contains(stdout, "valid: ports=1 services=3") || !strings.Contains(stdout, "\nmemory: connection tables ") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	bad := writeFile(t, "k.conf", "virtual_server 192.0.2.1 80 {\nlvs_sched \"rr\n}\n")
	if code, stdout, stderr := sluice("import", "keepalived", bad); code != 1 || stdout != "" || !strings.Contains(stderr, bad+":2: a quote") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
