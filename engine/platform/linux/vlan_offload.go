package linux

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// vlanOffloads are the features by which a card takes the VLAN tags out of received frames, by the
// kernel's names. The XDP program and AF_XDP sockets do not see such tags: the frames of all VLANs
// would seem to be untagged, and to be Sluice's.
var vlanOffloads = []string{"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"}

// keepTags turns the offloads of VLAN tags on reception off at an interface. restore turns those on
// again that were on; it is nil if none was.
func keepTags(ifname string) (restore func() error, err error) {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("ethtool: %w", err)
	}
	defer tool.Close()
	on, err := vlanOffloadsOn(tool, ifname)
	if err != nil || len(on) == 0 {
		return nil, err
	}
	err = setFeatures(tool, ifname, on, false)
	if err == nil {
		var left []string
		if left, err = vlanOffloadsOn(tool, ifname); err == nil && len(left) > 0 {
			err = errors.New("the driver leaves it on")
		}
	}
	restore = func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("ethtool: %w", err)
		}
		defer tool.Close()
		err = setFeatures(tool, ifname, on, true)
		if err != nil && !errors.Is(err, unix.ENODEV) { // the interface may be gone
			return fmt.Errorf("port %q: turning %s on again: %w", ifname, strings.Join(on, " and "), err)
		}
		return nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s hides VLAN tags from Sluice, so that frames of other VLANs look untagged, and cannot be turned off: %w; use a card with a driver that can (ethtool -K %s rxvlan off)",
			strings.Join(on, " and "), err, ifname), restore())
	}
	return restore, nil
}

// vlanOffloadsOn returns the offloads that are on. An interface without any answer has none.
func vlanOffloadsOn(tool *ethtool.Ethtool, ifname string) ([]string, error) {
	features, err := tool.Features(ifname)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("features of %s: %w", ifname, err)
	}
	return slices.DeleteFunc(slices.Clone(vlanOffloads), func(name string) bool { return !features[name] }), nil
}

func setFeatures(tool *ethtool.Ethtool, ifname string, names []string, on bool) error {
	want := make(map[string]bool)
	for _, name := range names {
		want[name] = on
	}
	return tool.Change(ifname, want)
}
