package engine

import (
	"fmt"
	"strings"
	"testing"

	"sluice/conf"
)

// manyServices is a configuration of services of so many backends each.
func manyServices(tb testing.TB, services, backends int, mode, scheduler string) *conf.Config {
	tb.Helper()
	var b strings.Builder
	b.WriteString("[[port]]\nname = \"eth0\"\n[[port]]\nname = \"eth1\"\n")
	for s := range services {
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\naddress = \"198.51.%d.%d\"\nport = 80\nprotocol = \"tcp\"\nmode = %q\nscheduler = %q\n",
			s, s/250, 1+s%250, mode, scheduler)
		if mode == "fullnat" {
			b.WriteString("source = [\"10.255.0.1\"]\n")
		}
		for n := range backends {
			fmt.Fprintf(&b, "[[service.backend]]\naddress = \"10.%d.%d.%d\"\nport = 80\n", s/250, s%250, 1+n)
		}
	}
	cfg, _, err := conf.Parse("test.toml", []byte(b.String()), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// BenchmarkPublish measures tables for a change of neighbours, per mode and scheduler.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct{ mode, scheduler string }{{"nat", "wlc"}, {"nat", "mh"}, {"tun", "rr"}, {"fullnat", "wlc"}} {
		b.Run(c.mode+"/"+c.scheduler, func(b *testing.B) {
			o, err := newOffline(manyServices(b, 1000, 50, c.mode, c.scheduler), OfflineOptions{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := o.republish(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
