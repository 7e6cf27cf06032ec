package main

import (
	"testing"
	"time"
)

// TestExplain: what a death explains, and what it does not.
func TestExplain(t *testing.T) {
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return zero.Add(time.Duration(seconds) * time.Second) }
	line := timeline{notice: 5 * time.Second}
	for _, d := range []*Death{
		{Backend: "b1", Server: "b1#1", Kind: killed, At: at(100), Back: at(101)},
		{Backend: "b2", Server: "b2#1", Kind: hung, At: at(200), Back: at(220)},
		{Backend: "b3", Server: "b3#1", Kind: silent, At: at(300), Back: at(301)},
	} {
		line.die(d)
		line.back(d, d.Back)
	}
	line.state("web", "b2", true, at(203))
	line.state("web", "b2", true, at(204)) // again, by another event
	line.state("web", "b2", false, at(225))
	line.state("web", "b3", true, at(400))
	for _, c := range []struct {
		what         string
		server       string
		table        string
		service      string
		began, ended int
		want         string
	}{
		{"it was at the server that was killed", "b1#1", "", "web", 90, 100, "b1"},
		{"it was at the next server", "b1#2", "", "web", 101, 110, ""},
		{"it was over before", "b1#1", "", "web", 90, 99, ""},
		{"it was sent to the dead server", "", "b1", "web", 100, 100, "b1"},
		{"it was sent to another server", "", "b3", "web", 100, 100, ""},
		{"nothing is known", "", "", "web", 100, 100, "b1"},
		{"it began after the death", "", "b1", "web", 102, 103, ""},
		{"the daemon ended it", "b2#1", "", "web", 190, 203, "b2"},
		{"it broke before the daemon noticed", "b2#1", "", "web", 190, 201, ""},
		{"it broke although that service had noticed nothing", "b2#1", "", "other", 190, 210, ""},
		{"it began when the backend was up again", "b2#1", "", "web", 226, 230, ""},
		{"its handshake began at the dead backend", "", "b1", "web", 202, 204, "b2"},
		{"its handshake began after that was noticed", "", "b1", "web", 205, 206, ""},
		{"a silence that was not noticed", "b3#1", "", "web", 290, 301, ""},
		{"the backend was down without a death", "b3#1", "", "web", 390, 401, ""},
	} {
		got := ""
		if d := line.explain(Broken{Service: c.service, Server: c.server, Began: at(c.began), Ended: at(c.ended)}, c.table); d != nil {
			got = d.Backend
		}
		if got != c.want {
			t.Errorf("%s: explained by %q, want %q", c.what, got, c.want)
		}
	}
	if all := line.groundless(); len(all) != 1 {
		t.Errorf("outages without a death: %q, want one of b3", all)
	}
}
