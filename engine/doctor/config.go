package doctor

import (
	"errors"
	"strings"

	"sluice/conf"
	"sluice/pipeline/service"
)

// checkConfig reports errors and warnings of the configuration. Most other checks need a valid one.
func checkConfig(b *Box) (all []Finding) {
	var problems conf.Problems
	switch {
	case errors.As(b.ConfigErr, &problems):
		for _, p := range problems {
			if b.ofRoutes(p) {
				continue
			}
			all = append(all, found(Problem, "correct the line; `sluice check` shows whether the file is valid", "%s", p.Error()))
		}
	case b.ConfigErr != nil:
		all = append(all, found(Problem, "name the file with --config", "the configuration can't be read: %v", b.ConfigErr))
	}
	for _, w := range b.Warnings {
		all = append(all, found(Warning, "correct the line, unless it is meant for another machine", "%s", w.Error()))
	}
	return all
}

// ofRoutes reports whether a problem of the configuration on this machine is the address of a dr
// backend that the kernel's routes do not lead to directly. checkRoutes reports it, with its fix.
func (b *Box) ofRoutes(p conf.Problem) bool {
	for _, t := range b.targets() {
		if t.mode == service.DR && strings.HasSuffix(p.Key, ".address") && strings.HasPrefix(p.Text, t.address.String()+" ") {
			r, err := b.Route(t.address)
			return err != nil || r.Gateway.IsValid()
		}
	}
	return false
}
