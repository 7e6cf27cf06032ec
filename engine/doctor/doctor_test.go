package doctor

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/host"
	"sluice/engine/steer"
)

const config = `
[engine]
cores = [1, 2]
[[port]]
name = "eth0"
[[port]]
name = "eth1"
[[service]]
name = "web"
address = "198.51.100.10"
port = 80
[service.health]
[[service.backend]]
address = "10.2.0.11"
[[service.backend]]
address = "10.9.0.1"
[[service]]
name = "tunnels"
address = "198.51.100.20"
port = 80
mode = "tun"
[[service.backend]]
address = "10.2.0.12"
[[service]]
name = "full"
address = "198.51.100.30"
port = 80
mode = "fullnat"
source = ["10.2.0.2"]
[[service.backend]]
address = "10.2.0.11"
[[service]]
name = "direct"
address = "198.51.100.40"
port = 80
mode = "dr"
[[service.backend]]
address = "10.2.0.13"
`

// healthy is a box with nothing to find but the notes in calm, with its daemon running.
func healthy(t *testing.T) *Box {
	t.Helper()
	cfg, _, err := conf.Parse("t.toml", []byte(config), nil)
	if err != nil {
		t.Fatal(err)
	}
	fs := fstest.MapFS{}
	b := &Box{
		Config: cfg, FS: fs, Links: map[string]*Link{}, Allowed: []int{0, 1, 2}, Capabilities: math.MaxUint64, Memlock: math.MaxUint64,
		Stats: &api.Stats{Drops: map[string]uint64{}, Workers: []api.WorkerStats{{CPU: 1}, {Worker: 1, CPU: 2}},
			Ports: []api.PortStats{{Name: "eth0", IO: api.IOZeroCopy}, {Name: "eth1", IO: api.IOZeroCopy, Queues: []api.QueueStats{{}}}}},
		Services: []api.Service{{Name: "web", Backends: []api.Backend{
			{Address: "10.2.0.11", Port: api.SinglePort(80), State: api.StateUp}, {Address: "10.9.0.1", Port: api.SinglePort(80), State: api.StateUp}}}},
		Neighbour: func(int, netip.Addr) string { return "REACHABLE" },
		Route: func(a netip.Addr) (Route, error) {
			r := Route{Ifindex: 3}
			if !netip.MustParsePrefix("10.2.0.0/24").Contains(a) {
				r.Gateway = netip.MustParseAddr("10.2.0.254")
			}
			return r, nil
		},
	}
	for i, name := range []string{"eth0", "eth1"} {
		b.Links[name] = &Link{Name: name, Index: 2 + i, Up: true, MTU: 1500 + 20*i, Kind: "device", Driver: "ice", RxQueues: 2, TxQueues: 2,
			RxRing: 2048, RxRingMax: 4096, Features: map[string]bool{}}
		b.put("sys/class/net/"+name+"/device/numa_node", "0")
		b.put("proc/sys/net/ipv4/conf/"+name+"/rp_filter", "0")
		for q := range 2 {
			irq := 40 + 2*i + q
			b.put("proc/interrupts", fmt.Sprintf("%s %d:  17  0  PCI-MSI  ice-%s-TxRx-%d\n", b.text("proc/interrupts")+"\n", irq, name, q))
			b.put(fmt.Sprintf("proc/irq/%d/effective_affinity_list", irq), fmt.Sprint(1+q))
		}
	}
	for _, a := range []string{"192.0.2.2/24", "10.2.0.1/24", "198.51.100.10/32", "198.51.100.20/32", "198.51.100.30/32", "198.51.100.40/32"} {
		prefix, link := netip.MustParsePrefix(a), "lo"
		if !prefix.IsSingleIP() {
			link = map[bool]string{true: "eth1", false: "eth0"}[strings.HasPrefix(a, "10.")]
		}
		b.Addresses = append(b.Addresses, host.Address{Prefix: prefix, Link: link})
	}
	b.Before, b.Now = Look{Stats: &api.Stats{Ports: []api.PortStats{{}, {Queues: []api.QueueStats{{}}}}}}, Look{Stats: b.Stats}
	for path, text := range map[string]string{
		"proc/sys/kernel/osrelease": "6.18.2-amd64", "proc/sys/net/core/bpf_jit_enable": "1", "proc/sys/net/ipv4/conf/all/rp_filter": "0",
		"proc/sys/net/ipv4/ip_local_port_range": "32768 60999", "proc/sys/net/ipv4/ip_forward": "1", "proc/sys/net/ipv6/conf/all/forwarding": "0",
		"proc/meminfo": "HugePages_Total:    512\nHugePages_Free:    400\n", "sys/devices/system/cpu/isolated": "1-2",
		"sys/devices/system/cpu/cpu1/node0/x": "", "sys/devices/system/cpu/cpu2/node0/x": "", "sys/devices/system/node/node0/cpulist": "0-3",
		"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance",
	} {
		b.put(path, text)
	}
	return b
}

func (b *Box) put(path, text string) { b.FS.(fstest.MapFS)[path] = &fstest.MapFile{Data: []byte(text)} }

func TestHealthyBox(t *testing.T) {
	all := Run(healthy(t))
	if len(all) != len(Checks) {
		t.Errorf("%d findings of %d checks", len(all), len(Checks))
	}
	for _, f := range all {
		if f.Severity != OK {
			t.Errorf("%s: %s: %s", f.Severity, f.Check, f.Text)
		}
	}
}

// stopped removes the daemon.
func stopped(b *Box) { b.Stats, b.Services, b.DaemonErr = nil, nil, errors.New("no daemon here") }

// passing is a reply of the service tunnels that comes in, and what the kernel does with it.
func passing(err error) []Passing {
	return []Passing{{Port: "eth1", VIP: netip.MustParseAddr("198.51.100.20"), Client: netip.MustParseAddr("192.0.2.7"), Err: err, Services: []string{"tunnels"}}}
}

// rule is an IPv4 rule of priority 100.
func rule(src, dst string) netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Family, r.Table = 100, netlink.FAMILY_V4, 100
	if src != "" {
		_, r.Src, _ = net.ParseCIDR(src)
	}
	if dst != "" {
		_, r.Dst, _ = net.ParseCIDR(dst)
	}
	return *r
}

// hang has a connection to a backend of web wait that has so many seconds left at the two looks.
func (b *Box) hang(before, now float64) {
	c := api.Conn{Service: "web", Client: "192.0.2.7:4000", Virtual: "198.51.100.10:80", Backend: "10.2.0.11:80", State: "SYN_RECV", Mode: "nat", ExpiresS: before}
	b.Before.Conns = []api.Conn{c}
	c.ExpiresS = now
	b.Now.Conns = []api.Conn{c}
}

// TestFaults checks that each fault is found once, by its check and no other.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		check    string
		severity Severity
		text     string
		plant    func(*Box)
	}{
		{"config", Problem, `t.toml:1: nonsense`, func(b *Box) {
			_, _, b.ConfigErr = conf.Parse("t.toml", []byte("nonsense"), nil)
			b.ConfigErr = conf.Problems{{File: "t.toml", Line: 1, Text: "nonsense"}}
		}},
		{"config", Warning, "doubtful", func(b *Box) { b.Warnings = []conf.Problem{{Text: "doubtful"}} }},
		{"daemon", Note, "no daemon here", stopped},
		{"daemon", Problem, "has answered nothing for 3s", func(b *Box) {
			stopped(b)
			b.DaemonErr = &api.NotAnswering{Socket: "s.sock", For: 3 * time.Second}
		}},
		{"daemon", Warning, "to_kernel_failed: /dev/net/tun is missing", func(b *Box) {
			b.Alarms = []api.Alarm{{Kind: api.AlarmNoBackend, Service: "web"}, {Kind: api.AlarmToKernel, Text: "/dev/net/tun is missing"}}
		}},
		{"kernel", Problem, "5.10.0 is older than 6.1", func(b *Box) { b.put("proc/sys/kernel/osrelease", "5.10.0") }},
		{"kernel", Note, "32 frames per system call", func(b *Box) { b.put("proc/sys/kernel/osrelease", "6.12.9") }},
		{"kernel", Warning, "interpreted", func(b *Box) { b.put("proc/sys/net/core/bpf_jit_enable", "0") }},
		{"capabilities", Problem, "no CAP_BPF", func(b *Box) { stopped(b); b.Capabilities &^= 1<<39 | 1<<21 }},
		{"capabilities", Problem, "no CAP_NET_RAW", func(b *Box) { stopped(b); b.Capabilities &^= 1 << 13 }},
		{"memlock", Problem, "64 KiB may be locked in memory and the frames take 96 MiB", func(b *Box) { stopped(b); b.Memlock = 64 << 10; b.Capabilities &^= 1 << ipcLock }},
		{"memory", Problem, "the tables for 1048576 connections take 192 MiB, and 200 MiB are left", func(b *Box) {
			stopped(b)
			b.put("proc/meminfo", "MemAvailable: 204800 kB\n")
		}},
		{"ports", Problem, "port eth0 is down", func(b *Box) { b.Links["eth0"].Up = false }},
		{"ports", Problem, `no interface "eth0"`, func(b *Box) { delete(b.Links, "eth0") }},
		{"occupant", Problem, `program "filter" of process 7`, func(b *Box) {
			b.Links["eth0"].ExistingProgram = &steer.ForeignError{Interface: "eth0", Program: "filter", PID: 7, Option: "xdpdrv"}
		}},
		{"occupant", Problem, "process number 9", func(b *Box) {
			stopped(b)
			b.Links["eth0"].ExistingProgram = &steer.BusyError{Interface: "eth0", PID: 9}
		}},
		{"mode", Warning, "generic", func(b *Box) { b.Stats.Ports[0].IO = api.IOGeneric }},
		{"mode", Warning, "copies packets although its driver, ice", func(b *Box) { b.Stats.Ports[0].IO = api.IOCopy }},
		{"mode", Note, "driver veth", func(b *Box) { stopped(b); b.Links["eth0"].Driver = "veth" }},
		{"vip", Problem, "198.51.100.10 is in a network of port eth0", func(b *Box) {
			b.Addresses[0].Prefix = netip.MustParsePrefix("198.51.100.1/28")
			b.Addresses[2].Prefix = netip.MustParsePrefix("192.0.2.99/32")
		}},
		{"vip", Problem, "arp_ignore keeps port eth0", func(b *Box) {
			b.Addresses[0].Prefix = netip.MustParsePrefix("198.51.100.1/28")
			b.put("proc/sys/net/ipv4/conf/all/arp_ignore", "1")
		}},
		{"vip", Note, "198.51.100.40 is on no interface", func(b *Box) { b.Addresses = b.Addresses[:5] }},
		{"vip", Warning, "its packets go back to router 10.2.0.254", func(b *Box) {
			stopped(b)
			b.Addresses = b.Addresses[:5]
			b.put("proc/sys/net/ipv4/ip_forward", "1")
		}},
		{"vip", Problem, "packets to service web, 198.51.100.10, come in at eth9, which is not a port: the kernel takes them for its own", func(b *Box) {
			b.Missed = []Missed{{"eth9", netip.MustParseAddr("198.51.100.10"), "web"}}
		}},
		{"routes", Problem, "backend 10.2.0.11 (web), 10.2.0.11 (full) is on the network of a port, and the route to it leads by eth0 to 192.0.2.254", func(b *Box) {
			b.hang(59, 58)
			b.Route = func(a netip.Addr) (Route, error) {
				if a.String() == "10.2.0.11" {
					return Route{Ifindex: 2, Gateway: netip.MustParseAddr("192.0.2.254")}, nil
				}
				return Route{Ifindex: 3}, nil
			}
		}},
		{"routes", Problem, "no way", func(b *Box) {
			b.Route = func(a netip.Addr) (Route, error) {
				if a.String() == "10.9.0.1" {
					return Route{}, errors.New("no way")
				}
				return Route{Ifindex: 3}, nil
			}
		}},
		{"routes", Problem, "reached by eth9, which is not a port", func(b *Box) {
			b.Links["eth9"] = &Link{Name: "eth9", Index: 9}
			b.Route = func(a netip.Addr) (Route, error) {
				if a.String() == "10.9.0.1" {
					return Route{Ifindex: 9}, nil
				}
				return Route{Ifindex: 3}, nil
			}
		}},
		{"routes", Problem, "behind the gateway", func(b *Box) {
			b.Config.Services[3].Backends[0].Key.Address = netip.MustParseAddr("10.9.0.2")
		}},
		{"neighbours", Problem, "gateway 10.2.0.254 to backend 10.9.0.1 (web) does not answer ARP on eth1 (FAILED)", func(b *Box) {
			b.Neighbour = func(_ int, a netip.Addr) string {
				if a.String() == "10.2.0.254" {
					return "FAILED"
				}
				return "STALE"
			}
		}},
		{"neighbours", Problem, "backend 10.2.0.11 (web), 10.2.0.11 (full) does not answer ARP", func(b *Box) {
			b.Neighbour = func(_ int, a netip.Addr) string {
				return map[bool]string{true: "FAILED", false: "STALE"}[a.String() == "10.2.0.11"]
			}
			b.Services[0].Backends = b.Services[0].Backends[:1]
			b.Services[0].Backends[0].State = api.StateDown
			b.hang(59, 58)
		}},
		{"neighbours", Warning, "no MAC address of backend 10.2.0.11 (web)", func(b *Box) {
			b.Neighbour = func(_ int, a netip.Addr) string {
				if a.String() == "10.2.0.11" {
					return ""
				}
				return "STALE"
			}
		}},
		{"backends", Warning, "10.2.0.11:80 of service web has been down for 7 s: refused", func(b *Box) {
			be := &b.Services[0].Backends[0]
			be.State, be.StateSinceS, be.LastError = api.StateDown, 7, "refused"
		}},
		{"backends", Problem, "service web has no backend that is up: backend 10.2.0.11:80 of service web has been down for 7 s: refused", func(b *Box) {
			b.Services[0].Backends = b.Services[0].Backends[:1]
			be := &b.Services[0].Backends[0]
			be.State, be.StateSinceS, be.LastError = api.StateDown, 7, "refused"
		}},
		{"mtu", Warning, "packets of 1500 bytes need 1500 to backend 10.2.0.13 (direct) and the path by eth1 has 1400", func(b *Box) {
			b.Config.Services = b.Config.Services[3:]
			b.Links["eth1"].MTU = 1400
		}},
		{"mtu", Warning, "need 1520 in the tunnel to backend 10.2.0.12 (tunnels) and the path by eth1 has 1500", func(b *Box) { b.Links["eth1"].MTU = 1500 }},
		{"rp_filter", Note, "port eth1 filters strictly", func(b *Box) { b.put("proc/sys/net/ipv4/conf/eth1/rp_filter", "1") }},
		{"rp_filter", Note, "port eth1 filters loosely", func(b *Box) { b.put("proc/sys/net/ipv4/conf/eth1/rp_filter", "2") }},
		{"rp_filter", Problem, "has dropped 400 packets within a second", func(b *Box) {
			b.put("proc/sys/net/ipv4/conf/eth1/rp_filter", "1")
			b.Before.Kernel = map[string]uint64{"TcpExtIPReversePathFilter": 7}
			b.Now.Kernel = map[string]uint64{"TcpExtIPReversePathFilter": 407}
		}},
		{"rp_filter", Problem, "it drops replies of service tunnels, which come in from 198.51.100.20", func(b *Box) {
			b.put("proc/sys/net/ipv4/conf/eth1/rp_filter", "1")
			b.Passing = passing(unix.EXDEV)
		}},
		{"forwarding", Problem, "replies of service tunnels from 198.51.100.20 come in at eth1, and the kernel does not forward IPv4", func(b *Box) {
			b.put("proc/sys/net/ipv4/ip_forward", "0")
			b.Passing = passing(errNotForwarding)
		}},
		{"forwarding", Note, "would be lost", func(b *Box) { b.put("proc/sys/net/ipv4/ip_forward", "0") }},
		{"replies", Problem, "drops them because it has the address itself, on lo", func(b *Box) { b.Passing = passing(unix.EINVAL) }},
		{"replies", Problem, "a rule of `ip rule` decides about them: ip rule 100: from 198.51.100.20/32", func(b *Box) {
			b.Passing = passing(unix.EACCES)
			b.Rules = []netlink.Rule{rule("198.51.100.20/32", "")}
		}},
		{"replies", Problem, "does not forward them to 192.0.2.7: network is unreachable", func(b *Box) { b.Passing = passing(unix.ENETUNREACH) }},
		{"replies", OK, "no reply of tun or dr", func(b *Box) { b.Passing = passing(nil) }},
		{"rules", Problem, "decides about packets to backend 10.2.0.12 (tunnels)", func(b *Box) {
			b.Rules = []netlink.Rule{rule("", "10.2.0.12/32")}
			b.Route = func(a netip.Addr) (Route, error) {
				if a.String() == "10.2.0.12" {
					return Route{}, unix.EACCES
				}
				return Route{Ifindex: 3}, nil
			}
		}},
		{"hanging", Problem, "1 connections to backend 10.2.0.11:80 of service web wait for its SYN-ACK, one of them from 192.0.2.7", func(b *Box) { b.hang(59, 58) }},
		{"hanging", OK, "no connection waits", func(b *Box) { b.hang(59.9, 59.9) }},
		{"hanging", OK, "no connection waits", func(b *Box) { b.hang(59, 58); b.Now.Conns[0].SeenReply = true }},
		{"hanging", Note, "one of them from 192.0.2.7, while others are opened", func(b *Box) {
			b.hang(59, 58)
			b.Before.Conns[0].Mode, b.Now.Conns[0].Mode = "dr", "dr"
			b.Before.Services = []api.Service{{Name: "web", Backends: slices.Clone(b.Services[0].Backends)}}
			b.Services[0].Backends[0].Connections = 1
			b.Now.Services = b.Services
		}},
		{"hanging", OK, "no connection waits", func(b *Box) { b.hang(31, 30) }},
		{"daemon", Warning, "another PID namespace", func(b *Box) { b.Elsewhere, b.Links = InContainer, nil }},
		{"daemon", Warning, "the daemon, process 77, runs in another network namespace", func(b *Box) {
			b.Elsewhere, b.Links = 77, nil
			b.Stats.Ports = nil
		}},
		{"port_range", Note, "36280 of 64512", func(b *Box) {
			b.Addresses = append(b.Addresses, host.Address{Prefix: netip.MustParsePrefix("10.2.0.2/32"), Link: "eth1"})
		}},
		{"port_range", Warning, "512 of 64512", func(b *Box) {
			b.Addresses = append(b.Addresses, host.Address{Prefix: netip.MustParsePrefix("10.2.0.2/32"), Link: "eth1"})
			b.put("proc/sys/net/ipv4/ip_local_port_range", "1024\t65023")
		}},
		{"drops", Warning, "9 packets of backends were lost", func(b *Box) { b.Stats.ToKernelFailed = 9 }},
		{"forwarding", Note, "forwards IPv6", func(b *Box) { b.put("proc/sys/net/ipv6/conf/all/forwarding", "1") }},
		{"offloads", Problem, "LRO", func(b *Box) { b.Links["eth0"].Features["rx-lro"] = true }},
		{"offloads", Warning, "rx-gro-hw", func(b *Box) { b.Links["eth0"].Features["rx-gro-hw"] = true }},
		{"offloads", Note, "is a veth", func(b *Box) { b.Links["eth0"].Kind = "veth" }},
		{"offloads", Problem, "removes their tags", func(b *Box) {
			b.Links["eth0"].Features["rx-vlan-hw-parse"] = true
			b.Links["eth0.7"] = &Link{Name: "eth0.7", Index: 20, Kind: "vlan", Parent: 2}
		}},
		{"queues", Warning, "1 queue(s) for 2 workers", func(b *Box) { b.Links["eth0"].RxQueues, b.Links["eth0"].TxQueues = 1, 1 }},
		{"queues", Problem, "2 RX queues and 1 TX queues", func(b *Box) { b.Links["eth0"].TxQueues = 1 }},
		{"queues", Note, "3 queues for 2 workers", func(b *Box) { b.Links["eth0"].RxQueues, b.Links["eth0"].TxQueues = 3, 3 }},
		{"irq", Warning, "queue 1 on CPU 0, its worker on 2", func(b *Box) { b.put("proc/irq/43/effective_affinity_list", "0") }},
		{"numa", Warning, "workers on CPU 1-2 are not", func(b *Box) { b.put("sys/class/net/eth0/device/numa_node", "1") }},
		{"rings", Note, "has an RX ring of 256 packets", func(b *Box) { b.Links["eth0"].RxRing = 256 }},
		{"hugepages", Note, "0 huge pages are reserved and the frames would take 48", func(b *Box) { b.put("proc/meminfo", "HugePages_Total: 0\nHugePages_Free: 0\n") }},
		{"hugepages", Note, "shmem_enabled of transparent huge pages is never", func(b *Box) {
			b.put("proc/meminfo", "HugePages_Total: 0\nHugePages_Free: 0\n")
			b.put("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n")
		}},
		{"cpu", Note, "powersave", func(b *Box) { b.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave") }},
		{"cpu", Note, "other processes may run on CPU 2", func(b *Box) { b.put("sys/devices/system/cpu/isolated", "1") }},
		{"drops", Warning, "7 connections of mode fullnat got a port", func(b *Box) { b.Stats.PortReusedEarly = 7 }},
		{"drops", Note, "5 packets were dropped as no_route: no route to the next hop since the daemon started, none within the last second", func(b *Box) {
			b.Stats.Drops["no_route"] = 5
			b.Before.Stats = b.Stats
		}},
		{"routes", Note, "2 backends can't be reached while port eth1 is down", func(b *Box) {
			b.Config.Ports[1].Name = "eth7"
			b.Config.Services = b.Config.Services[:1]
			b.Links["eth7"], b.Stats.Ports = b.Links["eth0"], nil
			b.Route = func(netip.Addr) (Route, error) { return Route{}, errors.New("no route") }
			b.Config.Ports[1].Name = "eth1"
			b.Links["eth1"].Up = false
		}},
		{"drops", Warning, "5 packets were dropped as no_neighbour", func(b *Box) { b.Stats.Drops["no_neighbour"] = 5 }},
		{"drops", Warning, "6 packets were lost at port eth1 queue 0 because there was no free frame (fill_empty)", func(b *Box) { b.Stats.Ports[1].Queues[0].KernelFillRingEmpty = 6 }},
	} {
		b := healthy(t)
		c.plant(b)
		hits := 0
		for _, f := range Run(b) {
			switch {
			case f.Check == c.check && f.Severity == c.severity && strings.Contains(f.Text, c.text):
				hits++
				if f.Fix == "" && c.severity != OK {
					t.Errorf("%s: %q has no fix", c.check, f.Text)
				}
			case c.check == "routes" && f.Check == "ports", c.check == "neighbours" && f.Check == "backends":
				// what is down
			case f.Severity == Problem || f.Severity == Warning:
				t.Errorf("%s %q: also %s: %s: %s", c.check, c.text, f.Severity, f.Check, f.Text)
			}
		}
		if hits != 1 {
			t.Errorf("%s: %d findings %q: %+v", c.check, hits, c.text, Run(b))
		}
	}
}

// TestRepairOfPaths checks that checks by tun and dr get fixes of their own: asking a backend's own
// address shows nothing about their paths.
func TestRepairOfPaths(t *testing.T) {
	for lastError, want := range map[string]string{
		"tcp 10.2.0.11:80: no answer within 1s":                          "curl or nc",
		"tcp 198.51.100.10:80 by dr to 10.2.0.11: no answer within 1s":   "on 10.2.0.11: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2; ip addr replace 198.51.100.10/32 dev lo (a server must listen",
		"http 198.51.100.10:80 by tun to 10.2.0.11: no answer within 1s": "a tunnel interface with rp_filter 0 decapsulate",
		"tcp 198.51.100.10:80 by dr to 10.2.0.11: connection refused":    "start the server of web on 10.2.0.11, and let it listen at 198.51.100.10",
		"tcp 10.2.0.11:80: connection refused":                           "start the server of web on 10.2.0.11, and let it listen at 10.2.0.11:80",
	} {
		if fix := repair(api.Service{Name: "web", Address: "198.51.100.10"}, api.Backend{Address: "10.2.0.11", Port: api.SinglePort(80), LastError: lastError}); !strings.Contains(fix, want) {
			t.Errorf("%s: %s", lastError, fix)
		}
	}
}

// A box of which nothing is known makes no check fall over.
func TestEmptyBox(t *testing.T) {
	b := &Box{FS: fstest.MapFS{}, ConfigErr: errors.New("none"), DaemonErr: errors.New("none"),
		Route: func(netip.Addr) (Route, error) { return Route{}, errors.New("none") }, Neighbour: func(int, netip.Addr) string { return "" }}
	if all := Run(b); len(all) < len(Checks) {
		t.Errorf("%+v", all)
	}
}
