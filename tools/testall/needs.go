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

// needs lists the programs that tests run, with the Debian packages to install for each. The
// product needs none of them.
var needs = []struct{ program, pkg, why string }{
	{"clang-14", "clang-14", "to compile the XDP programs and compare them with the committed objects"},
	{"llvm-strip-14", "llvm-14", "to strip them"},
	{"gcc", "gcc libc6-dev", "to link the race detector"},
	{"ip", "iproute2", "to build the lab of the manual"},
	{"ss", "iproute2", "to end what tests have left of connections"},
	{"ethtool", "ethtool", "to build the lab of the manual"},
	{"curl", "curl", "to be the client in that lab"},
	{"nft", "nftables", "to masquerade what backends send through a balancer"},
	{"chromium", "chromium", "to open the page of [api] http"},
	{"systemd-analyze", "systemd", "to check the unit"},
	{"tmux", "tmux", "to run `sluice top` in a terminal"},
}

// aptAttempts and aptPause bound the wait for another process that installs packages, as at boot.
const (
	aptAttempts = 30
	aptPause    = 10 * time.Second
)

// installMissing installs with apt what provides the missing programs.
func installMissing(log io.Writer) error {
	var missing []string
	for _, need := range needs {
		if _, err := exec.LookPath(need.program); err != nil {
			fmt.Fprintf(log, "%s is missing (needed %s): installing %s\n", need.program, need.why, need.pkg)
			missing = append(missing, strings.Fields(need.pkg)...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	manually := fmt.Sprintf("install them yourself: apt-get install %s", strings.Join(missing, " "))
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("programs are missing and this machine has no apt-get: " + manually)
	}
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if apt(install...) == nil {
		return nil // the package lists were recent enough
	}
	if err := apt("update"); err != nil {
		return fmt.Errorf("%w; %s", err, manually)
	}
	if err := apt(install...); err != nil {
		return fmt.Errorf("%w; %s", err, manually)
	}
	return nil
}

// apt runs apt-get. It retries while another process holds a lock of apt.
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

// compiler returns the C compiler that links the runtime of the race detector.
func compiler() string {
	for _, program := range []string{"gcc", "clang-14"} {
		if _, err := exec.LookPath(program); err == nil {
			return program
		}
	}
	return "cc"
}
