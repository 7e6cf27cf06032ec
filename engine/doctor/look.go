package doctor

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/engine/api"
)

// Look is what was counted at one moment. Findings are about now: they compare two looks.
type Look struct {
	Stats    *api.Stats
	Services []api.Service
	Conns    []api.Conn        // some of those that are being opened
	Kernel   map[string]uint64 // the kernel's counters: see KernelCounters
}

// KernelCounters returns the kernel's counters in the thread's network namespace, by their names in
// nstat(8): TcpExtIPReversePathFilter is one.
func (b *Box) KernelCounters() map[string]uint64 {
	all := make(map[string]uint64)
	lines := strings.Split(b.text("proc/thread-self/net/netstat"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := 1; j < min(len(names), len(values)); j++ {
			n, _ := strconv.ParseUint(values[j], 10, 64)
			all[strings.TrimSuffix(names[0], ":")+names[j]] = n
		}
	}
	return all
}

// risen returns by how much a counter of the kernel has risen between the looks.
func (b *Box) risen(name string) uint64 { return api.Growth(b.Before.Kernel[name], b.Now.Kernel[name]) }

// Passing is a frame from a service's address that was seen coming in: a reply of tun or dr that
// passes this machine's kernel.
type Passing struct {
	Port     string // interface
	VIP      netip.Addr
	Client   netip.Addr
	Err      error    // why the kernel does not forward it; nil: it does
	Services []string // names
}

// Missed is a packet to a service that was seen coming in by an interface that is not a port, where
// the kernel gets it and not Sluice.
type Missed struct {
	Interface string
	VIP       netip.Addr
	Service   string // name
}

// oneWayServices returns the names of the services at an address with a tun or dr backend.
func (b *Box) oneWayServices(vip netip.Addr) (names []string) {
	if b.Config == nil {
		return nil
	}
	for i := range b.Config.Services {
		s := &b.Config.Services[i]
		for _, be := range s.Servers() {
			if s.Key.Address == vip && !be.Mode.RepliesThroughUs() && !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// oneWay reports whether a service of a family has a tun or dr backend.
func (b *Box) oneWay(is4 bool) bool {
	return slices.ContainsFunc(b.vips(), func(vip netip.Addr) bool { return vip.Is4() == is4 && len(b.oneWayServices(vip)) > 0 })
}

// ages of a connection that is being opened, in seconds, within which it hangs: its client waits
// for an answer, and has not given up.
const (
	youngestWait = 0.5
	oldestWait   = 5
)

// ends identifies a connection.
func ends(c api.Conn) string { return c.Client + c.Virtual + c.Backend }

// before returns the connections of the first look, and whether they were being opened.
func (b *Box) before() map[string]bool {
	opening := make(map[string]bool)
	for _, c := range b.Before.Conns {
		opening[ends(c)] = c.State == "SYN_RECV"
	}
	return opening
}

// hanging returns the connections that were being opened at both looks, by their backend. If the
// backend has answered, it is the client that is silent. before is what before returns.
func (b *Box) hanging(before map[string]bool) map[string][]api.Conn {
	out := make(map[string][]api.Conn)
	for _, c := range b.Now.Conns {
		if c.State != "SYN_RECV" || c.SeenReply || !before[ends(c)] {
			continue
		}
		if age := b.synRecv(c.Service).Seconds() - c.ExpiresS; age >= youngestWait && age <= oldestWait {
			out[c.Service+" "+c.Backend] = append(out[c.Service+" "+c.Backend], c)
		}
	}
	return out
}

// synRecv returns the timeout of a service's connections that are being opened.
func (b *Box) synRecv(name string) time.Duration {
	for i := range b.Config.Services {
		if s := &b.Config.Services[i]; s.Name == name {
			return s.Timeouts.TCPSynRecv
		}
	}
	return 0
}

// opens reports whether connections to a connection's backend have been opened between the looks:
// more than now wait for the end of their handshake. before is what before returns.
func (b *Box) opens(c api.Conn, before map[string]bool) bool {
	count := func(l *Look) (n uint64) {
		for _, s := range l.Services {
			for i := range s.Backends {
				if s.Name == c.Service && isBackend(&s.Backends[i], c.Backend) {
					n += s.Backends[i].Connections
				}
			}
		}
		return n
	}
	waiting := uint64(0)
	for _, now := range b.Now.Conns {
		if _, was := before[ends(now)]; !was && now.Service == c.Service && now.Backend == c.Backend {
			waiting++
		}
	}
	return api.Growth(count(&b.Before), count(&b.Now)) > waiting
}
