package testbed

import (
	"fmt"
	"os/exec"
	"slices"
)

// Build builds the sluice of this module as the file at a path, with flags of `go build`.
func Build(path string, flags ...string) error {
	args := slices.Concat([]string{"build", "-o", path}, flags, []string{"sluice/cmd/sluice"})
	if output, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("building sluice: %w\n%s", err, output)
	}
	return nil
}
