package api

import (
	"fmt"
	"strings"
)

// Why says in words why a backend is in its state, with what else there is to know about it: "" if
// nothing is.
func Why(b Backend) string {
	why := b.Reason
	if b.LastError != "" && !strings.Contains(why, b.LastError) {
		if why != "" {
			why += "; "
		}
		why += "last check: " + b.LastError
	}
	if b.SlowStart > 0 {
		if why != "" {
			why += "; "
		}
		why += fmt.Sprintf("slow start: %.0f %% of its weight", 100*b.SlowStart)
	}
	return why
}
