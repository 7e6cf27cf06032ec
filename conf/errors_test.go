package conf_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice/conf"
)

// testHost returns the host of the cases and examples.
func testHost() *conf.Host {
	port := func(addresses ...string) conf.HostPort {
		p := conf.HostPort{Queues: 4}
		for _, a := range addresses {
			prefix := netip.MustParsePrefix(a)
			p.Addresses = append(p.Addresses, prefix.Addr())
			p.OnLink = append(p.OnLink, prefix)
		}
		return p
	}
	return &conf.Host{
		CPUs: []int{0, 1, 2, 3},
		Ports: map[string]conf.HostPort{
			"eth0": port("192.0.2.2/24", "10.0.0.1/24", "2001:db8::1/64", "fe80::1/64"),
			"eth1": port("172.16.0.1/24"),
			"eth2": port(),
		},
		CheckToken: func(path string) error {
			return map[string]error{"/nowhere/token": fs.ErrNotExist, "/public/token": errors.New("all users can read it")}[path]
		},
		CheckPins: func(dir string) error {
			return map[string]error{"/plain/sluice": errors.New("/plain/sluice is not in a BPF file system")}[dir]
		},
	}
}

const (
	goodPort    = "\n[[port]]\nname = \"eth0\"\n"
	goodService = "\n[[service]]\nname = \"good\"\naddress = \"192.0.2.200\"\nport = 9\n[[service.backend]]\naddress = \"10.0.0.99\"\n"
)

// A testCase is one case of testdata/errors.txt; the format is described at the top of the file.
type testCase struct {
	name, text string
	errors     []conf.Problem // Text is a part of the message
	warnings   []conf.Problem
}

func readCases(t *testing.T) []testCase {
	data, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []testCase
	for _, part := range strings.Split(string(data), "\n=== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		c := testCase{name: name, text: text}
		if !strings.Contains(text, "[[port]]") && !strings.Contains(text, "\nport = [") && !strings.HasSuffix(name, "(whole)") {
			c.text += goodPort
		}
		if !strings.Contains(text, "[service]") && !strings.HasSuffix(name, "(whole)") {
			c.text += goodService
		}
		c.errors = marks(t, text, "# ERROR ")
		c.warnings = marks(t, text, "# WARN ")
		if (len(c.errors)+len(c.warnings) == 0) != strings.HasPrefix(name, "good: ") {
			t.Errorf("case %q: only good ones expect nothing", name)
		}
		all = append(all, c)
	}
	return all
}

// marks parses the expectations in the comments of a text.
func marks(t *testing.T, text, mark string) []conf.Problem {
	var all []conf.Problem
	for i, line := range strings.Split(text, "\n") {
		_, comment, found := strings.Cut(line, mark)
		if !found {
			continue
		}
		for _, one := range strings.Split(comment, "#"+mark) {
			key, part, ok := strings.Cut(strings.TrimSpace(one), ": ")
			if !ok {
				t.Fatalf("mark %q has no text", one)
			}
			all = append(all, conf.Problem{Line: i + 1, Key: strings.TrimPrefix(key, "-"), Text: part})
		}
	}
	return all
}

// compare removes the expected problems from got one by one.
func compare(t *testing.T, what string, want, got []conf.Problem) {
	t.Helper()
	got = slices.Clone(got)
	for _, w := range want {
		i := slices.IndexFunc(got, func(g conf.Problem) bool {
			return g.Line == w.Line && g.Key == w.Key && strings.Contains(g.Text, w.Text)
		})
		if i < 0 {
			t.Errorf("missing %s:\n\t%d: %s: ...%s...", what, w.Line, w.Key, w.Text)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	for _, g := range got {
		t.Errorf("unexpected %s:\n\t%d: %s: %s", what, g.Line, g.Key, g.Text)
	}
}

func problemsOf(t *testing.T, err error) conf.Problems {
	t.Helper()
	if err == nil {
		return nil
	}
	var problems conf.Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("the error is %T, not a filled Problems: %v", err, err)
	}
	return problems
}

// TestErrors checks every error of the format: its line, its key and its text, and that there are
// no others.
func TestErrors(t *testing.T) {
	for _, c := range readCases(t) {
		t.Run(c.name, func(t *testing.T) {
			cfg, warnings, err := conf.Parse("case.toml", []byte(c.text), testHost())
			problems := problemsOf(t, err)
			compare(t, "error", c.errors, problems)
			compare(t, "warning", c.warnings, warnings)
			if (cfg == nil) != (err != nil) {
				t.Errorf("Config %v and error %v", cfg, err)
			}
			if !slices.IsSortedFunc(problems, func(a, b conf.Problem) int { return a.Line - b.Line }) {
				t.Errorf("not sorted by line:\n%v", err)
			}
		})
	}
}

// TestErrorsWithoutHost checks that without facts about a machine everything that needs none is
// still checked.
func TestErrorsWithoutHost(t *testing.T) {
	for _, c := range readCases(t) {
		_, _, with := conf.Parse("case.toml", []byte(c.text), testHost())
		_, warnings, without := conf.Parse("case.toml", []byte(c.text), nil)
		for _, w := range warnings {
			if strings.Contains(w.Text, "this machine") {
				t.Errorf("%s: a warning about an unknown machine: %v", c.name, w)
			}
		}
		var rest conf.Problems
		for _, p := range problemsOf(t, with) {
			if !strings.Contains(p.Text, "on-link") && !strings.Contains(p.Text, "this machine (") && !strings.Contains(p.Text, "RX queue") && !strings.Contains(p.Text, "all users") && !strings.Contains(p.Text, "BPF file system") {
				rest = append(rest, p)
			}
		}
		if got := problemsOf(t, without); !reflect.DeepEqual(got, rest) {
			t.Errorf("%s: got\n%v\nwant\n%v", c.name, got, rest)
		}
	}
}

// TestSyntaxErrors checks that a syntax error stops the reading, at the right line and with one
// message.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line       int
		part       string
	}{
		{"no value", "[engine]\nbatch =\n", 2, "not valid TOML"},
		{"open string", "[engine]\nbatch = 1\npoll = \"busy\n", 3, "not valid TOML: strings cannot contain newlines"},
		{"open header", "\n\n[engine\n", 3, "not valid TOML"},
		{"open array", "a = [1,\n2\n", 2, "not valid TOML"},
		{"open multi-line string", "a = \"\"\"\nb\n", 2, "not valid TOML"},
		{"end in the first line", "a = [", 1, "not valid TOML"},
		{"two values", "a = 1 2\n", 1, "not valid TOML"},
		{"duplicate key", "[[port]]\nname = \"a\"\nname = \"b\"\n", 3, "'port.name' has already been defined"},
		{"duplicate key of the second of two", "[[port]]\nname = \"a\"\n[[port]]\nname = \"b\"\nname = \"c\"\n", 5, "'port.name' has already been defined"},
		{"duplicate table", "[engine]\n[api]\n[engine]\n", 3, "'engine' has already been defined"},
		{"table after array of tables", "[[port]]\n[port]\n", 2, "has already been defined"},
		{"integer too large", "[engine]\n\nbatch = 99999999999999999999\n", 3, "out of range for int64"},
		{"bad escape", "[api]\nsocket = \"\\q\"\n", 2, "invalid escape"},
		{"zero byte", "[api]\nsocket = \"a\x00b\"\n", 2, "has a zero byte"},
		{"zero byte at the end", "[api]\n\x00", 2, "has a zero byte"},
		{"control character", "[api]\n\nsocket = \"a\x01b\"\n", 3, "control characters"},
		{"not UTF-8", "[api]\nsocket = \"\xff\"\n", 2, "has byte 0xff, which is not UTF-8"},
		{"UTF-16", "\xff\xfe[\x00a\x00]\x00", 1, "has a zero byte"},
		{"deep array", "a = 1\nb = " + strings.Repeat("[", 1000), 2, "nested more than 32 levels deep"},
		{"very deep array", "b = " + strings.Repeat("[", 15<<20), 1, "nested more than 32 levels deep"},
		{"deep inline table", "b = " + strings.Repeat("{a=", 1<<20), 1, "nested more than 32 levels deep"},
		{"deep key", "\n" + strings.Repeat("a.", 1<<20) + "a = 1", 2, "nested more than 32 levels deep"},
		{"deep header", "\n[" + strings.Repeat("a.", 1<<20) + "a]", 2, "nested more than 32 levels deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _, err := conf.Parse("case.toml", []byte(c.text), nil)
			problems := problemsOf(t, err)
			if cfg != nil || len(problems) != 1 {
				t.Fatalf("got %v and\n%v", cfg, err)
			}
			if p := problems[0]; p.Line != c.line || !strings.Contains(p.Text, c.part) {
				t.Errorf("got %v, want line %d and %q", p, c.line, c.part)
			}
		})
	}
}

func TestProblemText(t *testing.T) {
	_, _, err := conf.Parse("/etc/sluice/sluice.toml", []byte("[engine]\nbatch = 0\nx = 1\n"+goodPort+goodService), nil)
	want := "/etc/sluice/sluice.toml:2: engine.batch: 0 is out of range; allowed: an integer from 1 to 256\n" +
		"/etc/sluice/sluice.toml:3: engine.x: unknown key; allowed here: adopt_per_second, batch, bpf_dir, connections, cores, hash_key, on_stop, poll, state_dir, stuck_after"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestTooMany checks that numbers beyond the data plane's limits are refused, at the first excess
// one.
func TestTooMany(t *testing.T) {
	if testing.Short() {
		t.Skip("parses files of 65,536 elements")
	}
	var b strings.Builder
	b.WriteString(goodPort[1:])
	for i := range 65536 {
		fmt.Fprintf(&b, "[[service]]\naddress = \"2001:db8:f::%x\"\nport = 80\nbackend = [{address = \"2001:db8::11\"}]\n", i+1)
	}
	_, _, err := conf.Parse("many.toml", []byte(b.String()), nil)
	if got := problemsOf(t, err); len(got) != 1 || got[0].Line != 3+4*65535 || !strings.Contains(got[0].Text, "at most 65535") {
		t.Errorf("services: %v", err)
	}

	b.Reset()
	b.WriteString(goodPort[1:] + "[[service]]\nname = \"web\"\naddress = \"2001:db8:f::1\"\nport = 80\nbackend = [\n")
	for i := range 65536 {
		fmt.Fprintf(&b, "{address = \"2001:db8::%x\"},\n", i+1)
	}
	b.WriteString("]\n")
	_, _, err = conf.Parse("many.toml", []byte(b.String()), nil)
	if got := problemsOf(t, err); len(got) != 1 || got[0].Line != 8+65535 || got[0].Key != `service["web"].backend[65535]` {
		t.Errorf("backends: %v", err)
	}
}
