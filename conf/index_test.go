package conf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"
)

// flatten writes a tree of places as "path line" in the order of keys and items, for comparison.
func flatten(p *place) map[string]int {
	all := map[string]int{}
	var walk func(*place)
	walk = func(p *place) {
		if path := p.path(); path != "" {
			all[path] = p.line
		}
		for _, k := range p.keys {
			walk(k)
		}
		for _, item := range p.items {
			walk(item)
		}
	}
	walk(p)
	return all
}

func TestIndex(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       map[string]int
	}{
		{"nothing", "", map[string]int{}},
		{"comments only", "# a = 1\n\n  # [b]\n", map[string]int{}},
		{"keys", "a = 1\n\nb = 2 # c = 3\n", map[string]int{"a": 1, "b": 3}},
		{"no final line end", "a = 1\nb = 2", map[string]int{"a": 1, "b": 2}},
		{"CRLF", "a = 1\r\n\r\nb = 2\r\n", map[string]int{"a": 1, "b": 3}},
		{"BOM", "\ufeffa = 1\nb = 2\n", map[string]int{"a": 1, "b": 2}},
		{"tables", "[a]\nx = 1\n[b.c]\ny = 2\n[a.d]\n", map[string]int{"a": 1, "a.x": 2, "b": 3, "b.c": 3, "b.c.y": 4, "a.d": 5}},
		{"parent after child", "[a.b]\n[a]\nx = 1", map[string]int{"a": 2, "a.b": 1, "a.x": 3}},
		{"array of tables", "[[s]]\nn = 1\n[[s.b]]\n[[s.b]]\nw = 1\n[s.h]\nt = 1\n[[s]]\n[[s.b]]\n",
			map[string]int{"s": 1, "s[0]": 1, "s[0].n": 2, "s[0].b": 3, "s[0].b[0]": 3, "s[0].b[1]": 4, "s[0].b[1].w": 5,
				"s[0].h": 6, "s[0].h.t": 7, "s[1]": 8, "s[1].b": 9, "s[1].b[0]": 9}},
		{"dotted", "a.b.c = 1\n a . d = 2\n", map[string]int{"a": 1, "a.b": 1, "a.b.c": 1, "a.d": 2}},
		{"quoted", "\"a b\" = 1\n'c.d' = 2\n\"\" = 3\n\"\\u0041\" = 4\n[\"x]\".'y=z#']\n", map[string]int{
			`"a b"`: 1, `"c.d"`: 2, `""`: 3, "A": 4, `"x]"`: 5, `"x]"."y=z#"`: 5}},
		{"strings", "a = \"x = 1 # \\\" ]\"\nb = 'y\\'\nc = 3", map[string]int{"a": 1, "b": 2, "c": 3}},
		{"multi-line strings", "a = \"\"\"\nx = 1\n\\\"\"\"\n[b]\n\"\"\"\"\"\nc = '''\n''d = 1\n'''''\ne = 1", map[string]int{"a": 1, "c": 6, "e": 9}},
		{"empty strings", "a = \"\"\nb = ''\nc = \"\"\"\"\"\"\nd = ''''''\ne = 1", map[string]int{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}},
		{"arrays", "a = [ 1,\n 2, # [3\n\n \"]\", [ 4,\n5 ], ]\nb = 1", map[string]int{
			"a": 1, "a[0]": 1, "a[1]": 2, "a[2]": 4, "a[3]": 4, "a[3][0]": 4, "a[3][1]": 5, "b": 6}},
		{"inline tables", "a = { x = 1, y.z = 2,\n w = [ { v = 1 },\n { v = 2 } ] }\nb = {}", map[string]int{
			"a": 1, "a.x": 1, "a.y": 1, "a.y.z": 1, "a.w": 2, "a.w[0]": 2, "a.w[0].v": 2, "a.w[1]": 3, "a.w[1].v": 3, "b": 4}},
		{"numbers and dates", "a = 1979-05-27 07:32:00Z\nb = -1.5e+3\nc = [inf,nan\n,0xff]", map[string]int{"a": 1, "b": 2, "c": 3, "c[0]": 3, "c[1]": 3, "c[2]": 4}},
	} {
		root, deep := index(c.text)
		if got := flatten(root); deep != 0 || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.name, got, c.want)
		}
		if _, err := toml.Decode(c.text, new(map[string]any)); err != nil {
			t.Errorf("%s is not TOML: %v", c.name, err)
		}
	}
}

func TestIndexDepth(t *testing.T) {
	at := func(n int) string { return "\na = " + strings.Repeat("[\n", n) + strings.Repeat("]", n) }
	if _, deep := index(at(maxDepth)); deep != 0 {
		t.Errorf("%d levels are too deep at line %d", maxDepth, deep)
	}
	if _, deep := index(at(maxDepth + 1)); deep != 2+maxDepth {
		t.Errorf("%d levels are too deep at line %d, want %d", maxDepth+1, deep, 2+maxDepth)
	}
}

// sameShape compares values that the toml library found with the places that index found, both
// ways.
func sameShape(t interface{ Errorf(string, ...any) }, value any, p *place, lines int) {
	if p.line < 1 || p.line > lines {
		t.Errorf("%s is at line %d of %d", p.path(), p.line, lines)
	}
	elements, _ := elementsOf(value)
	if len(elements) != len(p.items) {
		t.Errorf("%s has %d elements and %d places", p.path(), len(elements), len(p.items))
		return
	}
	for i, element := range elements {
		sameShape(t, element, p.items[i], lines)
	}
	keys, _ := value.(map[string]any)
	if len(keys) != len(p.keys) {
		t.Errorf("%s has %d keys and %d places", p.path(), len(keys), len(p.keys))
	}
	for name, v := range keys {
		if p.keys[name] == nil {
			t.Errorf("%s has no place for %q", p.path(), name)
			continue
		}
		sameShape(t, v, p.keys[name], lines)
	}
}

// naiveLines is the slow twin for lines: the line of each "key = integer" with a key that is not
// else.
func naiveLines(text string) map[string]int {
	all := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		if name, _, ok := strings.Cut(line, " = "); ok {
			all[name] = i + 1
		}
	}
	return all
}

func addSeeds(f *testing.F) {
	paths, err := filepath.Glob("examples/*.toml")
	if err != nil || len(paths) == 0 {
		f.Fatal("no examples", err)
	}
	for _, path := range append(paths, "testdata/errors.txt") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "\n=== ") {
			f.Add(part)
		}
	}
	f.Add("a = \"\"\"\nx = 1\n\\\"\"\"\n[b]\n\"\"\"\"\"\nc = '''\n''d = 1\n'''''\ne = 1")
	f.Add("a = { x = 1, y.z = 2,\n w = [ { v = 1 },\n { v = 2 } ] }\nb = {}\n[[c.d]]\n[[c.d.e]]\n[c.d.f]")
	f.Add("\ufeff\"a b\".'c.d'.\"\\u0041\" = 1979-05-27 07:32:00Z # x\r\n[\"x]\".'y=z#']")
}

// Whatever the toml library accepts, index finds entirely; and it comes to an end with everything
// else.
func FuzzIndex(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		root, deep := index(text)
		r := &report{file: "fuzz.toml"}
		if _, values := r.decode(text); values != nil {
			if deep != 0 {
				t.Errorf("decoded, although too deep at line %d", deep)
			}
			sameShape(t, values, root, lineCount(text))
		}
		// A key of our own at the end has its own line, whatever stands before it.
		marked := strings.TrimSuffix(text, "\n") + "\n[zzz-mark]\nzzz = 1\n"
		if _, values := (&report{}).decode(marked); values != nil {
			root, _ := index(marked)
			if mark, ok := values["zzz-mark"].(map[string]any); ok && mark["zzz"] != nil {
				if got, want := root.keys["zzz-mark"].keys["zzz"].line, naiveLines(marked)["zzz"]; got != want {
					t.Errorf("the mark is at line %d, index says %d", want, got)
				}
			}
		}
	})
}

// Nothing makes Parse panic, hang, or point outside of the file.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		cfg, warnings, err := Parse("fuzz.toml", []byte(text), &Host{CPUs: []int{0}, Ports: map[string]HostPort{"eth0": {Queues: 1}}})
		if (cfg == nil) != (err != nil) {
			t.Fatalf("Config %v and error %v", cfg, err)
		}
		var problems Problems
		errors.As(err, &problems)
		if err != nil && len(problems) == 0 {
			t.Fatalf("error without problems: %v", err)
		}
		for _, p := range append(problems, warnings...) {
			if p.Line < 1 || p.Line > lineCount(text) || p.Text == "" || p.File != "fuzz.toml" {
				t.Errorf("%d lines, but %+v", lineCount(text), p)
			}
		}
		if cfg == nil {
			return
		}
		if len(cfg.Ports) == 0 || len(cfg.Services) == 0 {
			t.Errorf("accepted without ports or services: %+v", cfg)
		}
		for _, s := range cfg.Services {
			if !s.Key.Address.IsValid() || s.Name == "" || s.Mode == 0 || s.Key.Protocol == 0 || len(s.Backends) == 0 {
				t.Errorf("accepted an impossible service: %+v", s)
			}
			for _, b := range s.Backends {
				if !b.Key.Address.IsValid() || b.Mode == 0 || b.Weight < 0 || b.Weight > 65535 || (b.Key.Port == 0) && s.Key.Ports.Single() {
					t.Errorf("accepted an impossible backend: %+v", b)
				}
			}
		}
		if changes := Diff(cfg, cfg); changes != nil {
			t.Errorf("differs from itself: %v", changes)
		}
	})
}

// A document is written value by value, and the line of each key is noted while it is written.
type document struct {
	*rapid.T
	text strings.Builder
	keys int            // so far; each has a name of its own
	want map[string]int // key: line
}

func (d *document) line() int { return 1 + strings.Count(d.text.String(), "\n") }

// pick writes one of the texts.
func (d *document) pick(texts ...string) {
	d.text.WriteString(rapid.SampledFrom(texts).Draw(d.T, "text"))
}

// key writes a new key, spelled in one of the ways that TOML has.
func (d *document) key() {
	name := "k" + strconv.Itoa(d.keys)
	d.keys++
	d.want[name] = d.line()
	d.pick(name, `"`+name+`"`, "'"+name+"'", `"\u006b`+name[1:]+`"`, "dot.ted . "+name)
}

func (d *document) value(depth int) {
	kind := 0
	if depth < 4 {
		kind = rapid.IntRange(0, 4).Draw(d.T, "kind")
	}
	switch kind {
	case 3:
		d.pick("[", "[\n", "[ # [[x]] = ]\n")
		for range rapid.IntRange(0, 3).Draw(d.T, "elements") {
			d.value(depth + 1)
			d.pick(",", " ,\n", "\n,#,\n\r\n")
		}
		d.pick("]", "\n]")
	case 4:
		d.pick("{", "{ ")
		for i := range rapid.IntRange(0, 3).Draw(d.T, "pairs") {
			if i > 0 {
				d.pick(",", " ,\n ", ", # }\n")
			}
			d.pair(depth + 1)
		}
		d.pick("}", " }")
	default:
		d.pick("1", "-2.5e3", "true", "1979-05-27 07:32:00", `""`, "''", `"a = 1 # \" [x] \\"`, `'c:\'`,
			"\"\"\"\n[x]\na = 1\n\\\"\"\"\"\"\"", "\"\"\"\"\"\"", "\"\"\"two\"\"\"\"\"", "'''\n\\'''''", "'''a'b''c'''", "\"\"\"a\\\n  \n b\"\"\"")
	}
}

func (d *document) pair(depth int) {
	d.key()
	d.pick("=", " = ", "\t=")
	d.value(depth)
}

// TestIndexGenerated compares index with lines that were noted, and with the toml library, on
// documents with everything that a configuration will hardly ever have.
func TestIndexGenerated(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		d := &document{T: t, want: map[string]int{}}
		for range rapid.IntRange(0, 8).Draw(t, "statements") {
			d.pick("", "\n", "# a = 1\n", " \t", "\r\n")
			switch rapid.IntRange(0, 3).Draw(t, "statement") {
			case 0:
				d.text.WriteString("[")
				d.key()
				d.pick("]\n", " ] # ]\n")
			case 1:
				d.text.WriteString("[[")
				d.pick("list", "list.inner", `"list" . 'inner'`, "other")
				d.pick("]]\n", " ]]\r\n")
			default:
				d.pair(0)
				d.pick("\n", " # b = 2\n", "\r\n\r\n")
			}
		}
		text := d.text.String()
		root, _ := index(text)
		got := map[string]int{}
		var walk func(*place)
		walk = func(p *place) {
			if strings.HasPrefix(p.name, "k") {
				got[p.name] = p.line
			}
			for _, k := range p.keys {
				walk(k)
			}
			for _, item := range p.items {
				walk(item)
			}
		}
		walk(root)
		if !reflect.DeepEqual(got, d.want) {
			t.Fatalf("of\n%s\ngot  %v\nwant %v", text, got, d.want)
		}
		if _, values := (&report{}).decode(text); values != nil { // else some table came twice
			sameShape(t, values, root, lineCount(text))
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("the toml library accepts no generated document")
	}
	t.Logf("%d documents are TOML", accepted)
}
