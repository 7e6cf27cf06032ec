package route

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/tools/leaks"
)

// namePrefix begins the names of the lab's namespaces. They end in the process ID, because runs may
// overlap. A killed run leaves its namespaces behind; TestMain removes those of processes that have
// ended.
const namePrefix = "route-"

var boxName, peerName = fmt.Sprintf("%sbox-%d", namePrefix, os.Getpid()), fmt.Sprintf("%speer-%d", namePrefix, os.Getpid())

func TestMain(m *testing.M) {
	removeLeftovers()
	leaks.Main(m)
}

func removeLeftovers() {
	files, _ := filepath.Glob("/run/netns/" + namePrefix + "*-*")
	for _, file := range files {
		pid, err := strconv.Atoi(file[strings.LastIndexByte(file, '-')+1:])
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = netns.DeleteNamed(filepath.Base(file))
		}
	}
}

// lab is a box with the ports p0 and p1 and a machine at the other end of each, both in one
// namespace:
//
//	box  p0 02:00:00:00:00:00 10.0.0.1/24 2001:db8:0::1/64 --- peer  q0 04:00:00:00:00:00 .2 ::2
//	box  p1 02:00:00:00:00:01 10.1.0.1/24 2001:db8:1::1/64 --- peer  q1 04:00:00:00:00:01 .2 ::2
type lab struct {
	t         *testing.T
	box, peer *netlink.Handle
	boxNS     netns.NsHandle
	peerNS    netns.NsHandle
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	l := &lab{t: t}
	l.boxNS, l.box = l.namespace(boxName)
	l.peerNS, l.peer = l.namespace(peerName)
	l.wire(0)
	l.wire(1)
	return l
}

// namespace makes a namespace in which duplicate address detection costs no time.
func (l *lab) namespace(name string) (netns.NsHandle, *netlink.Handle) {
	l.t.Helper()
	var ns netns.NsHandle
	onThread(l.t, func() (err error) {
		ns, err = netns.NewNamed(name)
		return err
	})
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	l.must(err)
	l.t.Cleanup(func() {
		handle.Close()
		ns.Close()
		if err := netns.DeleteNamed(name); err != nil {
			l.t.Errorf("remove namespace: %v", err)
		}
	})
	l.sysctl(ns, map[string]string{
		"ipv6/conf/all/accept_dad":     "0",
		"ipv6/conf/default/accept_dad": "0",
		"ipv4/conf/default/arp_notify": "1",
	})
	return ns, handle
}

// sysctl sets files below /proc/sys/net in the namespace.
func (l *lab) sysctl(ns netns.NsHandle, values map[string]string) {
	l.t.Helper()
	onThread(l.t, func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		for file, value := range values {
			if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// onThread runs f on a thread that ends with it, so that f may change the thread's namespace.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// wire makes the pair pN--qN with its addresses.
func (l *lab) wire(n byte) {
	l.t.Helper()
	digit := string('0' + rune(n))
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "p"+digit, net.HardwareAddr{2, 0, 0, 0, 0, n}
	l.must(l.box.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "q" + digit,
		PeerNamespace: netlink.NsFd(l.peerNS), PeerHardwareAddr: net.HardwareAddr{4, 0, 0, 0, 0, n}}))
	// Dead neighbours are detected in tenths of a second.
	for _, family := range []string{"ipv4", "ipv6"} {
		l.sysctl(l.boxNS, map[string]string{
			family + "/neigh/p" + digit + "/locktime":               "0",
			family + "/neigh/p" + digit + "/delay_first_probe_time": "1",
			family + "/neigh/p" + digit + "/retrans_time_ms":        "100",
		})
	}
	for _, end := range []struct {
		h    *netlink.Handle
		name string
		host string
	}{{l.peer, "q" + digit, "2"}, {l.box, "p" + digit, "1"}} {
		l.must(end.h.LinkSetUp(link(l.t, end.h, end.name)))
		l.addr(end.h, end.name, "10."+digit+".0."+end.host+"/24")
		l.addr(end.h, end.name, "2001:db8:"+digit+"::"+end.host+"/64")
	}
	for deadline := time.Now().Add(10 * time.Second); link(l.t, l.box, "p"+digit).Attrs().RawFlags&unix.IFF_RUNNING == 0; {
		if time.Now().After(deadline) {
			l.t.Fatalf("p%s never got carrier", digit)
		}
		time.Sleep(time.Millisecond)
	}
}

func link(t *testing.T, h *netlink.Handle, name string) netlink.Link {
	t.Helper()
	found, err := h.LinkByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return found
}

// index returns the index of an interface of the box.
func (l *lab) index(name string) int { return link(l.t, l.box, name).Attrs().Index }

func (l *lab) addr(h *netlink.Handle, name, prefix string) {
	l.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	l.must(err)
	if strings.Contains(prefix, ":") {
		a.Flags |= unix.IFA_F_NODAD
	}
	l.must(h.AddrAdd(link(l.t, h, name), a))
}

// route returns a route of the box; gateway "" means on-link.
func (l *lab) route(prefix, gateway, port string, metric int) *netlink.Route {
	l.t.Helper()
	_, dst, err := net.ParseCIDR(prefix)
	l.must(err)
	r := &netlink.Route{Dst: dst, LinkIndex: l.index(port), Priority: metric}
	if gateway != "" {
		r.Gw = net.ParseIP(gateway)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

// start follows the box's ports.
func (l *lab) start(c Config) *Follower {
	l.t.Helper()
	if c.Ports == nil {
		c.Ports = []string{"p0", "p1"}
	}
	var f *Follower
	onThread(l.t, func() (err error) {
		if err = netns.Set(l.boxNS); err == nil {
			f, err = Start(c)
		}
		return err
	})
	l.t.Cleanup(f.Close)
	return f
}

// await waits until a snapshot fulfils the condition.
func await(t *testing.T, f *Follower, what string, condition func(*Snapshot) bool) *Snapshot {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if s := f.Snapshot(); condition(s) {
			return s
		}
		select {
		case <-f.Changed():
		case <-deadline:
			t.Fatalf("never saw: %s; ports %+v", what, f.Snapshot().Ports)
		}
	}
}

// look returns link and reason for a destination.
func look(s *Snapshot, dst string) (rewrite.Link, counter.Reason) {
	l, reason := s.Table.Lookup(packet.AddrFrom(netip.MustParseAddr(dst)))
	if l == nil {
		return rewrite.Link{}, reason
	}
	return *l, reason
}

// goes waits until packets to dst leave by the port with this destination MAC.
func goes(t *testing.T, f *Follower, dst string, port uint8, mac [6]byte) {
	t.Helper()
	await(t, f, dst+" goes there", func(s *Snapshot) bool {
		l, reason := look(s, dst)
		return reason == counter.None && l.Port == port && l.DMAC == mac
	})
}

// stops waits until packets to dst are dropped for this reason.
func stops(t *testing.T, f *Follower, dst string, want counter.Reason) {
	t.Helper()
	await(t, f, dst+" is dropped as "+want.String(), func(s *Snapshot) bool {
		_, reason := look(s, dst)
		return reason == want
	})
}

// MAC addresses of the peer's ends, and those that tests assign later.
var (
	macQ0  = [6]byte{4, 0, 0, 0, 0, 0}
	macQ1  = [6]byte{4, 0, 0, 0, 0, 1}
	macNew = [6]byte{4, 0, 0, 0, 0, 0x99}
)
