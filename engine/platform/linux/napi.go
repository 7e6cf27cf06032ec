package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// napiSettings are set on interfaces that are busy polled. With busy polling, the worker's own
// system calls run the driver's receive loop. The driver's interrupts must then stay off as long as
// polling goes on; these settings limit for how long (Documentation/networking/napi.rst). The
// values are those that the kernel's AF_XDP sample suggests.
var napiSettings = map[string]string{
	"napi_defer_hard_irqs": "2",      // empty polls before interrupts are on again
	"gro_flush_timeout":    "200000", // ns without a poll until the kernel polls
}

// sysNet is the directory of the interfaces of the network namespace that sysfs was mounted in.
const sysNet = "/sys/class/net"

// deferInterrupts applies napiSettings to an interface. restore sets the old values; it must be
// called after an error, too.
func deferInterrupts(ifname string) (restore func() error, err error) {
	old := make(map[string]string)
	restore = func() error {
		var errs []error
		for name, value := range old {
			err := os.WriteFile(filepath.Join(sysNet, ifname, name), []byte(value), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // the interface may be gone
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
