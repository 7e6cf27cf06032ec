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

// TestPathMTU: a router far away tells by ICMP that a backend's packets are too big. It tells the
// service's address, which is all it knows; Sluice brings the news to the backend that has the
// connection, in every mode. Without it a download would hang.
func TestPathMTU(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-mtu"}) // backends remember for ten minutes what they are told
	cfg := config(t, testbed.Paths...)
	// A backend remembers what it was told, per family and way out, so each path has its own:
	// tunnels that carry the other family share a backend with nat, whose way out is another one.
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
	setMTU(t, b.Router, "client", 1300) // the client itself goes on to offer 1500
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

// told counts the ICMP errors of the kind that a host has received: IPv4 counts all that say
// "unreachable".
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
