package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Busy polling has a worker's own system calls run the driver's receive loop. For that the driver's
// interrupts must keep away while somebody polls: these two settings of an interface say for how
// long (Documentation/networking/napi.rst). The values are the ones that the kernel's own AF_XDP
// sample suggests.
var napiSettings = map[string]string{
	"napi_defer_hard_irqs": "2",      // polls in vain before interrupts are on again
	"gro_flush_timeout":    "200000", // ns until the kernel polls by itself, should nobody else
}

// sysNet is where the kernel shows the interfaces of the network namespace that sysfs was mounted
// in.
const sysNet = "/sys/class/net"

// deferInterrupts makes the settings for an interface and returns what puts the old ones back.
func deferInterrupts(ifname string) (restore func() error, err error) {
	old := make(map[string]string)
	restore = func() error {
		var errs []error
		for name, value := range old {
			err := os.WriteFile(filepath.Join(sysNet, ifname, name), []byte(value), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // the interface may be gone, and its settings with it
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	for name, value := range napiSettings {
		path := filepath.Join(sysNet, ifname, name)
		before, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(value), 0)
		}
		if err != nil {
			return restore, fmt.Errorf("port %q: busy polling wants %s=%s: %w", ifname, name, value, err)
		}
		old[name] = strings.TrimSpace(string(before))
	}
	return restore, nil
}
