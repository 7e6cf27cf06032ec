package doctor

import (
	"slices"
	"strings"
)

func checkPorts(b *Box) (all []Finding) {
	if b.Config == nil {
		return nil
	}
	for _, p := range b.Config.Ports {
		switch l := b.Links[p.Name]; {
		case l == nil && b.ConfigErr != nil:
			all = append(all, found(Note, "see the finding about the configuration", "no interface %q", p.Name))
		case l == nil:
			var names []string
			for name := range b.Links {
				if name != "lo" {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			all = append(all, found(Problem, "name an existing one: "+strings.Join(names, ", "), "no interface %q", p.Name))
		case !l.Up:
			all = append(all, found(Problem, here("and check the cable", "ip link set "+p.Name+" up"), "port %s is down", p.Name))
		}
	}
	return all
}
