package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// needs are the programs that tests want, with the Debian packages that have them, or that they
// need. The product needs none of them.
var needs = []struct{ program, pkg, why string }{
	{"clang-14", "clang-14", "to compile the XDP programs and compare them with the committed objects"},
	{"llvm-strip-14", "llvm-14", "to strip them"},
	{"gcc", "gcc libc6-dev", "to link the race detector"},
	{"ip", "iproute2", "to build the lab of the README as its reader does"},
	{"ethtool", "ethtool", "to build the lab of the README as its reader does"},
	{"curl", "curl", "to be the client in that lab"},
	{"chromium", "chromium", "to look at the page of [api] http as its readers do"},
	{"systemd-analyze", "systemd", "to look at the unit as systemd does"},
	{"tmux", "tmux", "to look at `sluice top` as its user does"},
}

// aptAttempts and aptPause bound the wait for whoever else is installing something at boot.
const (
	aptAttempts = 30
	aptPause    = 10 * time.Second
)

// installMissing installs the packages of programs that are missing, by name, with apt.
func installMissing(log io.Writer) error {
	var missing []string
	for _, need := range needs {
		if _, err := exec.LookPath(need.program); err != nil {
			fmt.Fprintf(log, "%s is missing, %s: installing %s\n", need.program, need.why, need.pkg)
			missing = append(missing, strings.Fields(need.pkg)...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	byHand := fmt.Sprintf("do it by hand: apt-get install %s", strings.Join(missing, " "))
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("this machine has no apt-get to install what is missing: " + byHand)
	}
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if apt(install...) == nil {
		return nil // the package lists were good enough
	}
	if err := apt("update"); err != nil {
		return fmt.Errorf("%w; %s", err, byHand)
	}
	if err := apt(install...); err != nil {
		return fmt.Errorf("%w; %s", err, byHand)
	}
	return nil
}

// apt runs apt-get, and again while another process holds one of its locks.
func apt(arguments ...string) error {
	for attempt := 1; ; attempt++ {
		command := exec.Command("apt-get", append([]string{"-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"}, arguments...)...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		output, err := command.CombinedOutput()
		if err == nil {
			return nil
		}
		if attempt == aptAttempts || !strings.Contains(string(output), "Could not get lock") {
			return fmt.Errorf("apt-get %s: %w: %s", arguments[0], err, strings.TrimSpace(string(output)))
		}
		time.Sleep(aptPause)
	}
}

// compiler is the C compiler that the race detector's runtime is linked with.
func compiler() string {
	for _, program := range []string{"gcc", "clang-14"} {
		if _, err := exec.LookPath(program); err == nil {
			return program
		}
	}
	return "cc"
}
