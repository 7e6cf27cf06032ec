package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/tools/e2e/testbed"
)

// row has the results of one path.
type row struct {
	path     testbed.Path
	web, udp testbed.Spread
	up, down int // MiB that arrived correctly
	errors   int // transfers that did not
}

// table prints all rows.
func (d *demo) table() {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mode\tfamily\tHTTP requests\tspread b1/b2/b3\tMiB up\tMiB down\tUDP requests\tspread\tbackend saw client as\terrors")
	for _, r := range d.rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%d\n", r.path.Mode, family(r.path),
			r.web.Answered(), byBackend(&r.web), r.up, r.down, r.udp.Answered(), byBackend(&r.udp), r.clients(),
			r.errors+len(r.web.Errors)+r.web.Refused+len(r.udp.Errors)+r.udp.Refused)
	}
	w.Flush()
	fmt.Println()
}

func family(p testbed.Path) string {
	if p.Family != p.Backend {
		return fmt.Sprintf("IPv%d in IPv%d", p.Family, p.Backend)
	}
	return fmt.Sprintf("IPv%d", p.Family)
}

func byBackend(s *testbed.Spread) string {
	return fmt.Sprintf("%d/%d/%d", s.By[0], s.By[1], s.By[2])
}

// clients returns all client addresses that backends saw.
func (r *row) clients() string {
	var all []string
	for _, s := range []testbed.Spread{r.web, r.udp} {
		for client := range s.Clients {
			if !slices.Contains(all, client.String()) {
				all = append(all, client.String())
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
