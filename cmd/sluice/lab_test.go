package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLabPage runs the blocks of lab.md, in namespaces of other names.
func TestLabPage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and runs a lab: a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	for _, program := range []string{"make", "ip", "ethtool", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: apt-get install make iproute2 ethtool curl", program)
		}
	}
	page, err := os.ReadFile("lab.md")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -euo pipefail\n"
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		script += block[1]
	}
	// Other names, so that this lab does not disturb one that a reader or another test has set up.
	dir := t.TempDir()
	hosts := fmt.Sprintf("lab-page.%d-", os.Getpid())
	script = strings.NewReplacer("try-", hosts, "/run/sluice-lab/", dir+"/", "bin/lab.", dir+"/lab.").Replace(script)
	cleanUp(t)
	t.Cleanup(func() { cleanUp(t) })

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	bash := exec.CommandContext(ctx, "bash", "-c", script)
	bash.Dir = filepath.Join("..", "..")
	bash.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	bash.Cancel = func() error { return syscall.Kill(-bash.Process.Pid, syscall.SIGKILL) }
	bash.WaitDelay = 5 * time.Second
	output, err := bash.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "lab.log"))
	if err != nil {
		t.Fatalf("the lab of lab.md fails: %v\n%s\n%s", err, output, log)
	}
	got := string(output)
	for _, backend := range []string{"b1", "b2", "b3"} {
		for _, server := range []string{"10.2.0.1" + backend[1:] + ":8080", "198.51.100.20:80", "198.51.100.30:80"} {
			if !regexp.MustCompile(`name=` + backend + ` client=10\.1\.0\.2:\d+ server=` + regexp.QuoteMeta(server)).MatchString(got) {
				t.Errorf("%s was not asked as %s, or did not see the client's address", backend, server)
			}
		}
	}
	for _, want := range []string{
		"lab.toml: valid: ports=2 services=4 backends=12", `msg=ready`,
		":53\n", "TCP  198.51.100.10:80 rr", "Masq", "Tunnel", "Route", "FIN_WAIT", "TIME_WAIT", "replied 0 + to the kernel 0 + dropped 0", "state drain", "state up", "packets      rx ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the output", want)
		}
	}
	if !strings.Contains(string(log), "msg=stopped") {
		t.Error("the daemon did not stop cleanly")
	}
	if t.Failed() {
		t.Logf("output:\n%s\nlog of the daemon:\n%s", got, log)
	}
}

// cleanUp removes the namespaces of this test, and those that killed runs of it left behind.
func cleanUp(t *testing.T) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // no namespace was ever made on this machine
	}
	ours := regexp.MustCompile(`^lab-page\.(\d+)-`)
	for _, entry := range entries {
		name := entry.Name()
		maker := ours.FindStringSubmatch(name)
		if maker == nil || maker[1] != strconv.Itoa(os.Getpid()) && alive(maker[1]) {
			continue
		}
		exec.Command("sh", "-c", "ip netns pids "+name+" | xargs -r kill -9").Run()
		if output, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("removing namespace %s: %v: %s", name, err, output)
		}
	}
}

// alive reports whether a process of this number exists.
func alive(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}
