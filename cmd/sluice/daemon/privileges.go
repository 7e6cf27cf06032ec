package daemon

import (
	"fmt"
	"os"
	"strings"

	"sluice/engine/doctor"
)

// checkPrivileges returns an error that names the capabilities that this process lacks.
func checkPrivileges() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	return privilegesIn(string(status))
}

// privilegesIn is checkPrivileges for the text of a /proc/PID/status.
func privilegesIn(status string) error {
	effective, err := doctor.Effective(status)
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range doctor.Lacking(effective) {
		missing = append(missing, fmt.Sprintf("%s (%s)", c.Name, c.For))
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("run needs root, or these capabilities that the process does not have: %s", strings.Join(missing, ", "))
}
