package api

import (
	"fmt"
	"strings"
)

// Why returns a text about a backend's state: the reason and other details, or "".
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

// StateName returns the name of a backend's state as every command and the page show it: the state,
// and "down (in use)" for a backend that is down and protected.
func StateName(b Backend) string {
	if b.Protected {
		return b.State + " (in use)"
	}
	return b.State
}
