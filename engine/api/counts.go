package api

import (
	"fmt"
	"strings"
)

// BackendCounts counts backends by state: Total is the sum of Up, Down and Drain. Sorry servers do
// not count.
type BackendCounts struct {
	Total int `json:"total"`
	Up    int `json:"up"`
	Down  int `json:"down"`
	Drain int `json:"drain"`
	// Protected is how many of Down take new connections: too few would remain.
	Protected int `json:"protected"`
}

// CountBackends counts the backends of services.
func CountBackends(services ...Service) (c BackendCounts) {
	for i := range services {
		for j := range services[i].Backends {
			b := &services[i].Backends[j]
			c.Add(b.State, b.Protected)
		}
	}
	return c
}

// Add counts a backend.
func (c *BackendCounts) Add(state string, protected bool) {
	c.Total++
	switch state {
	case StateUp:
		c.Up++
	case StateDown:
		c.Down++
	case StateDrain:
		c.Drain++
	}
	if protected {
		c.Protected++
	}
}

// Usable returns how many backends take new connections.
func (c BackendCounts) Usable() int { return c.Up + c.Protected }

// Fraction returns the worst state, with how many of all backends are in it: "12/12 down",
// "1/12 drain", "12/12 up". Every command, the page and the API say it so.
func (c BackendCounts) Fraction() string {
	switch {
	case c.Down > 0:
		return fmt.Sprintf("%d/%d down", c.Down, c.Total)
	case c.Drain > 0:
		return fmt.Sprintf("%d/%d drain", c.Drain, c.Total)
	}
	return fmt.Sprintf("%d/%d up", c.Up, c.Total)
}

// Note returns what Fraction leaves out: "2 in use, 1 drain", or "".
func (c BackendCounts) Note() string {
	var words []string
	if c.Protected > 0 {
		words = append(words, fmt.Sprint(c.Protected, " in use"))
	}
	if c.Down > 0 && c.Drain > 0 {
		words = append(words, fmt.Sprint(c.Drain, " drain"))
	}
	return strings.Join(words, ", ")
}

// String returns Fraction and Note: "12/12 down (6 in use)".
func (c BackendCounts) String() string {
	if note := c.Note(); note != "" {
		return c.Fraction() + " (" + note + ")"
	}
	return c.Fraction()
}

// ServiceNote returns what the fraction of a service leaves out, where its new connections go if no
// backend takes any, and whether it is under pressure or has a SYN flood, or "".
func ServiceNote(s Service) string {
	c := CountBackends(s)
	words := c.Note()
	if c.Usable() == 0 {
		goes := "new connections are refused"
		if s.Sorry != nil && s.Sorry.State == StateUp {
			goes = "sorry server in use"
		}
		words = strings.TrimPrefix(words+", "+goes, ", ")
	}
	if s.Pressure != nil {
		words = strings.TrimPrefix(words+", under pressure", ", ")
	}
	if s.FirstPackets != nil && s.FirstPackets.Flood {
		words = strings.TrimPrefix(words+", SYN flood", ", ")
	}
	return words
}
