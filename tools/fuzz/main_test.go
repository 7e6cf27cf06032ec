package main

import (
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		output string
		execs  int
		stop   time.Duration
		says   string // "": no complaint
	}{
		{"fuzz: elapsed: 0s, gathering baseline coverage: 0/7 completed\nfuzz: elapsed: 3s, execs: 325 (108/sec), new interesting: 1 (total: 8)\nfuzz: elapsed: 6s, execs: 700 (125/sec), new interesting: 1 (total: 8)\nPASS", 700, 0, ""},
		{"fuzz: elapsed: 3s, execs: 325 (108/sec), new interesting: 1 (total: 8)\nfuzz: elapsed: 6s, execs: 325 (0/sec), new interesting: 1 (total: 8)\nfuzz: elapsed: 1m3s, execs: 400 (1/sec), new interesting: 1 (total: 8)", 400, 3 * time.Second, ""},
		{"fuzz: elapsed: 3s, execs: 325 (108/sec), new interesting: 1 (total: 8)\nfuzz: elapsed: 30s, execs: 325 (0/sec), new interesting: 1 (total: 8)", 325, 27 * time.Second, "stood still for 27s"},
		{"fuzz: elapsed: 0s, gathering baseline coverage: 0/7 completed\nPASS", 0, 0, "nothing"},
		{"", 0, 0, "nothing"},
	} {
		var p progress
		for line := range strings.Lines(c.output) {
			p.read(strings.TrimSpace(line))
		}
		if p.execs != c.execs || p.stop != c.stop {
			t.Errorf("%q: %+v", c.output, p)
		}
		if err := p.complaint(); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q", c.output, err, c.says)
		}
	}
}
