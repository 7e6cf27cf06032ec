package linux

import (
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestKeepTags: the offloads are off until they are restored, and only those that were on come
// back.
func TestKeepTags(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "tags0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "tags1"}); err != nil {
		t.Fatal(err)
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	on := func() []string {
		t.Helper()
		names, err := vlanOffloadsOn(tool, "tags0")
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, want := range [][]string{vlanOffloads, vlanOffloads[:1], nil} {
		for _, name := range vlanOffloads {
			if err := setFeatures(tool, "tags0", []string{name}, slices.Contains(want, name)); err != nil {
				t.Fatal(err)
			}
		}
		if got := on(); !slices.Equal(got, want) {
			t.Fatalf("the veth has %v on, want %v", got, want)
		}
		restore, err := keepTags("tags0")
		if err != nil || (restore == nil) != (len(want) == 0) {
			t.Fatalf("keepTags returns a function: %v (%v)", restore != nil, err)
		}
		if got := on(); len(got) != 0 {
			t.Errorf("%v is on", got)
		}
		if restore == nil {
			continue
		}
		if err := restore(); err != nil {
			t.Error(err)
		}
		if got := on(); !slices.Equal(got, want) {
			t.Errorf("%v is on again, want %v", got, want)
		}
	}
	if restore, err := keepTags("lo"); err != nil || restore != nil {
		t.Errorf("lo: %v", err)
	}
	if _, err := keepTags("nosuch0"); err == nil {
		t.Error("no error about an interface that does not exist")
	}
	if err := setFeatures(tool, "tags0", vlanOffloads[:1], true); err != nil {
		t.Fatal(err)
	}
	restore, err := keepTags("tags0")
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("tags0")
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := restore(); err != nil {
		t.Errorf("restoring an interface that is gone: %v", err)
	}
}
