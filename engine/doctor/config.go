package doctor

import (
	"errors"

	"sluice/conf"
)

// checkConfig reports errors and warnings of the configuration. Most other checks need a valid one.
func checkConfig(b *Box) (all []Finding) {
	var problems conf.Problems
	switch {
	case errors.As(b.ConfigErr, &problems):
		for _, p := range problems {
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
