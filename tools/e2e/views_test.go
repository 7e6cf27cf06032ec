package e2e_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestViews: live traffic in the columns of ipvsadm and in one frame of top.
func TestViews(t *testing.T) {
	b := bed(t)
	d := start(t, b, healthChecked(t, nat4))
	held := hold(t, b, nat4.URL(), 3)
	var locals []string // one of them is a connection of the backend that dies
	for _, h := range held {
		locals = append(locals, regexp.QuoteMeta(h.Local))
	}
	busy(t, b, nat4)
	dies(t, b, 2)
	awaitStates(t, d, "up up down")
	for _, c := range []struct {
		args []string
		want string // some line
	}{
		{[]string{"list"}, `  -> 10\.2\.0\.13:8080 +Masq +1 +\d+ +\d+ +down.*refused`},
		{[]string{"list", "--stats"}, `  -> 10\.2\.0\.11:8080( +[1-9]\d*){5}`},
		{[]string{"list", "--rate"}, `TCP  198\.51\.100\.10:80( +[1-9]\d*){5}`},
		{[]string{"list", "-c", "-n"}, `TCP 1\d:\d\d  ESTABLISHED (` + strings.Join(locals, "|") + `) +198\.51\.100\.10:80 +10\.2\.0\.1\d:8080`},
		{[]string{"top", "--once"}, `    10\.2\.0\.13:8080 +down .*refused`},
		{[]string{"top", "--once"}, `packets [1-9][\d.]*k?/s  in [1-9][\d.]*[kM]  out [1-9][\d.]*[kMG] bit/s`},
	} {
		text, err := d.Verb(ctxOf(t), c.args...)
		must(t, err)
		if !regexp.MustCompile(`(?m)^` + c.want).MatchString(text) {
			t.Errorf("sluice %v has no line %s:\n%.3000s", c.args, c.want, text)
		}
	}
}
