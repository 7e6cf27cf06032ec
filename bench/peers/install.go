package peers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Install allows to install missing programs with apt.
type Install bool

// aptAttempts and aptPause bound the wait for another process that installs packages.
const (
	aptAttempts = 6
	aptPause    = 5 * time.Second
)

// find returns the path of a program and installs its Debian package if it is missing. A *Missing
// error has the reason why it cannot be installed.
func (allowed Install) find(program, pkg string) (string, error) {
	if path := lookup(program); path != "" {
		return path, nil
	}
	if !allowed {
		return "", missing("%s isn't installed: apt-get install %s", program, pkg)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", missing("%s isn't installed, and there is no apt-get to install %s with", program, pkg)
	}
	install := []string{"install", "-y", "--no-install-recommends", pkg}
	if err := apt(install...); err != nil {
		if err = apt("update"); err == nil {
			err = apt(install...)
		}
		if err != nil {
			return "", missing("%s could not be installed: %v", pkg, err)
		}
	}
	if path := lookup(program); path != "" {
		return path, nil
	}
	return "", missing("package %s has no program %s", pkg, program)
}

// lookup finds a program in the PATH or in the directories of administrators' programs.
func lookup(program string) string {
	for _, name := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// apt runs apt-get. It retries while another process holds a lock of apt. RUNLEVEL keeps Debian's
// invoke-rc.d from starting the services of the package.
func apt(arguments ...string) error {
	for attempt := 1; ; attempt++ {
		command := exec.Command("apt-get", append([]string{"-qq", "-o", "DPkg::Lock::Timeout=60", "-o", "Dpkg::Use-Pty=0"}, arguments...)...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		output, err := command.CombinedOutput()
		if err == nil {
			return nil
		}
		if attempt == aptAttempts || !strings.Contains(string(output), "Could not get lock") {
			return fmt.Errorf("apt-get %s: %w: %s", arguments[0], err, lastLine(string(output)))
		}
		time.Sleep(aptPause)
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
