package main

import (
	"context"
	"fmt"

	"sluice/tools/e2e/testbed"
)

// carry sends requests, transfers and datagrams of a client over one path.
func (d *demo) carry(ctx context.Context, p testbed.Path) error {
	d.step("%s: %s", p, describe(p))
	r := row{path: p}
	r.web = d.bed.Ask(ctx, p.URL(), requests)
	d.result("%d HTTP requests to %s, each on its own connection: %s by b1/b2/b3", requests, p.URL(), &r.web)
	d.checkSpread(&r.web, requests, p)

	for _, transfer := range []struct {
		name string
		do   func(context.Context, string, int64, uint64) error
		done *int
	}{{"up", d.bed.Upload, &r.up}, {"down", d.bed.Download, &r.down}} {
		err := transfer.do(ctx, p.URL(), megabytes<<20, uint64(p.Address().As16()[15]))
		if d.check(err == nil, "%s: %d MiB %s: %v", p, megabytes, transfer.name, err) {
			*transfer.done = megabytes
			d.result("%d MiB %s in one connection arrived with the right SHA-256", megabytes, transfer.name)
		} else {
			r.errors++
		}
	}

	r.udp = d.bed.AskUDP(ctx, p.UDP(), datagrams)
	d.result("%d UDP requests to %s, each from its own port: %s", datagrams, p.UDP(), &r.udp)
	d.checkSpread(&r.udp, datagrams, p)
	d.rows = append(d.rows, r)
	return ctx.Err()
}

// checkSpread checks that round robin used all backends, and which client address they saw.
func (d *demo) checkSpread(s *testbed.Spread, sent int, p testbed.Path) {
	third := sent / testbed.Backends
	d.check(s.By == [testbed.Backends]int{third, third, third}, "%s: not each backend answered a third of %d: %s, in the order %v", p, sent, s, s.Turns)
	for _, err := range s.Errors {
		d.check(false, "%s: %v", p, err)
	}
	for client := range s.Clients {
		d.check(client == p.Seen(), "%s: a backend took %s for the client, and should %s", p, client, p.Seen())
	}
}

// describe prints what a path shows.
func describe(p testbed.Path) string {
	text := map[string]string{
		"nat":     fmt.Sprintf("destination rewritten, port %d becomes %d; answers through Sluice", testbed.WebPort, testbed.NATWebPort),
		"fullnat": "source and destination rewritten; answers through Sluice, which they are addressed to",
		"tun":     fmt.Sprintf("IPv%d packets in an IPv%d tunnel; answers past Sluice", p.Family, p.Backend),
		"dr":      "only the MAC address changes; answers past Sluice",
	}[p.Mode]
	if p.Mode == "tun" && p.Backend == p.Family {
		text += "; full-size packets don't fit, so Sluice tells the client by ICMP"
	}
	return text
}
