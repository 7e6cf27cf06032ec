package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
)

// careful reloads as SIGHUP does.
func careful(lab *enginetest.Lab, text string) (api.ReloadResult, error) {
	return lab.ReloadAs(text, api.ReloadOptions{})
}

// many is a configuration of services with three backends each.
func many(services ...int) string {
	var all []svc
	for _, n := range services {
		all = append(all, svc{name: fmt.Sprint("s", n), port: fmt.Sprint(8000 + n),
			backends: []string{"10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"}})
	}
	return config(all...)
}

// TestTruncatedFilesChangeNothing: of a file that is cut at any byte either nothing is taken over,
// or it says the same as the whole one.
func TestTruncatedFilesChangeNothing(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 1, 1)
	whole := config(nat3()) + many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
	lab.Start(1, whole)
	before := openAll(t, lab, 0, 30)
	if len(whole) < 4000 {
		t.Fatalf("the configuration has %d bytes, too few to cut 4000 times", len(whole))
	}
	valid := 0
	for i := range 4000 {
		text := whole[:i*len(whole)/4000]
		result, err := careful(lab, text)
		switch {
		case err == nil && len(result.Changes) > 0:
			t.Fatalf("the first %d bytes of %d changed %q", len(text), len(whole), result.Changes)
		case err != nil && strings.Contains(err.Error(), "looks cut off"):
			valid++
		}
	}
	if valid < 100 {
		t.Errorf("only %d cuts gave a valid file: the test proves little", valid)
	}
	services := list(t, lab)
	if len(services) != 14 {
		t.Errorf("%d services are left of 14", len(services))
	}
	for _, s := range services {
		if len(s.Backends) != 3 {
			t.Errorf("%s has %d backends, not 3", s.Name, len(s.Backends))
		}
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "")
}

// TestGuard: what is refused unless forced, and what is not.
func TestGuard(t *testing.T) {
	t.Parallel()
	b := func(n ...int) (all []string) {
		for _, n := range n {
			all = append(all, fmt.Sprintf("10.0.0.%d:8080", 10+n))
		}
		return all
	}
	two := func(first, second []string) string {
		return config(svc{name: "a", backends: first}, svc{name: "b", port: "81", backends: second})
	}
	for _, c := range []struct {
		name, from, to string
		says           []string // none: accepted
	}{
		{"half of the services", many(1, 2, 3, 4), many(4, 3), nil},
		{"most services", many(1, 2, 3, 4), many(4), []string{"3 of 4 services", "s1, s2, s3", "9 of 12 backends", "and 4 more", "--force"}},
		{"most services, others come", many(1, 2, 3), many(3, 11, 12), []string{"2 of 3 services", "6 of 9 backends"}},
		{"half of the backends", two(b(1, 2), b(1, 2)), two(b(1), b(2)), nil},
		{"most backends", two(b(1, 2, 3), b(1, 2, 3)), two(b(2), b(1)), []string{"4 of 6 backends", "a 10.0.0.11:8080"}},
		{"all backends of one service", two(b(1, 2), b(1, 2)), two(b(3, 4), b(1, 2)), nil},
		{"order", many(1, 2, 3), many(3, 2, 1), nil},
		{"the last service", many(1, 2, 3, 4), many(1, 2, 3), nil},
		{"the last backend", two(b(1, 2), b(1, 2, 3)), two(b(1, 2), b(1, 2)), nil},
		{"the last line's end", many(1, 2, 3, 4), strings.TrimRight(many(1, 2, 3), "\n"), []string{"looks cut off", "line 69 of 89"}},
		{"the last table", many(1, 2, 3, 4) + "[service.health]\ntype = \"ping\"\n", many(1, 2, 3, 4), []string{"looks cut off"}},
		{"the first service", many(1, 2, 3, 4), many(2, 3, 4), nil},
		{"nothing but a comment", many(1, 2) + "# words\n", many(1, 2), nil},
		{"the last service before an end mark", many(1, 2, 3, 4) + "# end\n", many(1, 2, 3) + "# end\n", nil},
		{"changed and cut", many(1, 2, 3, 4) + "# end\n", "# new\n" + many(1, 2, 3, 4, 5), []string{"looks cut off", `a line "# end"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab := enginetest.New(t, 1, 1)
			lab.Start(1, c.from)
			before := len(list(t, lab))
			result, err := careful(lab, c.to)
			if len(c.says) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted: %q", result.Changes)
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q is missing in %q", text, err)
				}
			}
			if now := len(list(t, lab)); now != before {
				t.Errorf("%d services, %d before the refusal", now, before)
			}
			if _, err := lab.Reload(c.to); err != nil {
				t.Error("forced:", err)
			}
		})
	}
}
