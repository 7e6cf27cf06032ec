package doctor

import (
	"net/netip"
	"slices"
)

// causes collects the backends that one cause makes unreachable: one cause is one problem.
type causes struct{ all []cause }

type cause struct {
	key, fix, text string // text has a %s for the backends
	backends       []target
}

// add adds a backend to a cause. The fix and text of its first backend stay.
func (c *causes) add(key string, backend target, fix, text string) {
	i := slices.IndexFunc(c.all, func(one cause) bool { return one.key == key })
	if i < 0 {
		i, c.all = len(c.all), append(c.all, cause{key: key, fix: fix, text: text})
	}
	c.all[i].backends = append(c.all[i].backends, backend)
}

// problems returns a problem for each cause, in their order.
func (c *causes) problems() (all []Finding) {
	for _, one := range c.all {
		var names []string
		var addresses []netip.Addr
		for _, t := range one.backends {
			names, addresses = append(names, t.who()), append(addresses, t.address)
		}
		all = append(all, found(Problem, one.fix, one.text, list(names)).of(addresses...))
	}
	return all
}
