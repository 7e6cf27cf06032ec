package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// TestPathMTU: a remote router reports by ICMP that a backend's packets are too big. It sends that
// to the service's address. Sluice forwards it to the backend of the connection, in every mode.
// Without it a download would hang.
func TestPathMTU(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-mtu"}) // backends keep a path MTU for ten minutes
	cfg := config(t, testbed.Paths...)
	// A backend keeps a path MTU per family and route, so each path has its own backend. Tunnels
	// that carry the other family share one with nat, which uses another route.
	only := func(p testbed.Path) int {
		if p.Family != p.Backend {
			return 0
		}
		return map[string]int{"nat": 0, "tun": 1, "dr": 2}[p.Mode]
	}
	for i := range cfg.Services {
		at := only(testbed.Paths[i/2])
		cfg.Services[i].Backends = cfg.Services[i].Backends[at : at+1]
	}
	start(t, b, cfg)
	setMTU(t, b.Router, "client", 1300) // the client still offers 1500
	for _, p := range testbed.Paths {
		backend := b.Backends[only(p)].Host
		before := told(t, backend, p.Family)
		must(t, b.Download(ctxOf(t), p.URL(), 1<<20, 1))
		if told(t, backend, p.Family) == before {
			t.Errorf("%s: the backend was told nothing", p)
		}
	}
}

func setMTU(t *testing.T, h *netlab.Host, ifname string, mtu int) {
	t.Helper()
	must(t, h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	}))
}

// told returns the number of such ICMP errors that a host has received. For IPv4 this includes all
// "unreachable" errors.
func told(t *testing.T, h *netlab.Host, family int) (n int) {
	t.Helper()
	must(t, h.Do(func() error {
		if family == 6 {
			return scanFields("/proc/thread-self/net/snmp6", func(fields []string) {
				if fields[0] == "Icmp6InPktTooBigs" {
					fmt.Sscan(fields[1], &n)
				}
			})
		}
		column := 0 // a line of names, then one of numbers
		return scanFields("/proc/thread-self/net/snmp", func(fields []string) {
			if fields[0] != "Icmp:" {
				return
			}
			for i, name := range fields {
				if name == "InDestUnreachs" {
					column = i
					return
				}
			}
			fmt.Sscan(fields[column], &n)
		})
	}))
	return n
}

func scanFields(path string, line func(fields []string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 {
			line(fields)
		}
	}
	return lines.Err()
}
