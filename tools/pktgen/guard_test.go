package main

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sluice/cmd/cli"
	"sluice/tools/netlab"
	"sluice/tools/pktgen/labtest"
)

// TestDefaultRoute: no verb uses the interface of the default route of the namespace that it runs
// in, or one below, unless it is forced to.
func TestDefaultRoute(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), labtest.WaitLimit)
	defer cancel()
	send := func(more ...string) (code int, said string) {
		t.Helper()
		p, err := pair.Sender.Start(command(append([]string{"send", "--interface", "eth0", "--destination", "10.0.0.2:80", "--dmac", "02:00:00:00:00:02",
			"--count", "10", "--duration", "20s", "--backend", "packet", "-q"}, more...)...))
		labtest.Must(t, err)
		select {
		case <-p.Ended():
		case <-ctx.Done():
			t.Fatal("it does not end")
		}
		if p.Wait() == nil {
			return cli.ExitDone, p.Output()
		}
		return cli.ExitFailed, p.Output()
	}
	expect := func(what string, want int, more ...string) {
		t.Helper()
		code, said := send(more...)
		if code != want || (want == cli.ExitFailed) != strings.Contains(said, "interface eth0 has this host's default route") {
			t.Errorf("%s: exit code %d, want %d:\n%s", what, code, want, said)
		}
	}
	labtest.Must(t, pair.Sender.Addr("eth0", "10.0.0.1/24"))
	expect("without a route", cli.ExitDone)
	labtest.Must(t, pair.Sender.Route("198.51.100.0/24", "10.0.0.2"))
	expect("with another route", cli.ExitDone)
	labtest.Must(t, pair.Sender.Route("0.0.0.0/0", "10.0.0.2"))
	expect("with the default route", cli.ExitFailed)
	expect("with the default route, forced", cli.ExitDone, "--force")
	labtest.Must(t, pair.Sender.RouteDel("0.0.0.0/0", "10.0.0.2"))
	expect("without it again", cli.ExitDone)

	labtest.Must(t, pair.Sender.Do(func() error {
		parent, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "above", parent.Attrs().Index
		if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
			return err
		}
		above, err := netlink.LinkByName("above")
		if err == nil {
			err = netlink.LinkSetUp(above)
		}
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: above.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}})
	}))
	expect("with the default route above", cli.ExitFailed)

	for _, verb := range [][]string{
		{"receive", "--interface", "eth0", "--duration", "1s"},
		{"run", "--tx", "eth0", "--rx", "eth0", "--destination", "10.0.0.2:80", "--count", "1"},
		{"search", "--tx", "eth0", "--rx", "eth0", "--destination", "10.0.0.2:80", "--highest", "1k", "--duration", "100ms"},
		{"replay", "--interface", "eth0", "none.pcap"},
	} {
		p, err := pair.Sender.Start(command(verb...))
		labtest.Must(t, err)
		<-p.Ended()
		if said := p.Output(); p.Wait() == nil || !strings.Contains(said, "default route") {
			t.Errorf("%s is not refused:\n%s", verb[0], said)
		}
	}
}
