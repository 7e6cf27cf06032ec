package conf_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/conf"
)

// everyKey is a file with every key, none with its default.
const everyKey = "testdata/every.toml"

// everyKeyText returns the content of the file, with the paths of the lists of prefixes in
// testdata.
func everyKeyText(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(everyKey)
	if err != nil {
		t.Fatal(err)
	}
	return withTestdata(t, string(data))
}

// withTestdata returns a text with the path of testdata for /TESTDATA: the paths in a file are
// absolute.
func withTestdata(t *testing.T, text string) string {
	t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(text, "/TESTDATA", dir)
}

func sameConfig(a, b *conf.Config) string {
	return cmp.Diff(a, b, compareAddrs, cmp.FilterPath(isLine, cmp.Ignore()), cmpopts.IgnoreFields(conf.Config{}, "Text"))
}

// TestFormat checks that the output of Format is read as the same configuration, and formatted the
// same way again.
func TestFormat(t *testing.T) {
	texts := map[string]string{everyKey: everyKeyText(t)}
	for _, path := range examples(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(data)
	}
	for path, text := range texts {
		cfg, _, err := conf.Parse(path, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		text := conf.Format(cfg, func(s *conf.Service) string { return "about " + s.Name + "\nin \x00 two lines" })
		again, warnings, err := conf.Parse("formatted.toml", text, nil)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v %v\n%s", path, err, warnings, text)
		}
		if diff := sameConfig(cfg, again); diff != "" {
			t.Errorf("%s: formatted, it says something else:\n%s\n%s", path, diff, text)
		}
		if strings.Count(string(text), "# about ") != len(cfg.Services) {
			t.Errorf("%s: not every service has its comment:\n%s", path, text)
		}
	}
}

// TestEveryKeyIsThere checks that the file has every key, so that TestFormat covers all.
func TestEveryKeyIsThere(t *testing.T) {
	data, err := os.ReadFile(everyKey)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	have := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			have[section] = true
		} else if key, _, ok := strings.Cut(line, " ="); ok {
			have[strings.TrimPrefix(section+"."+key, ".")] = true
		}
	}
	for _, s := range conf.Settings {
		if key := strings.TrimPrefix(s.Table+"."+s.Key, "."); !have[key] {
			t.Errorf("%s has no %s: add it, with a value that is not its default, and see that Format writes it", everyKey, key)
		}
	}
}

// TestNew checks that New and NewService have the defaults of a file.
func TestNew(t *testing.T) {
	cfg := mustParse(t, "[[port]]\nname = \"eth0\"\n"+goodService)
	fresh := conf.New()
	fresh.Ports = cfg.Ports
	s := conf.NewService()
	s.Name, s.Key, s.Backends = cfg.Services[0].Name, cfg.Services[0].Key, slices.Clone(cfg.Services[0].Backends)
	fresh.Services = []conf.Service{s}
	if diff := sameConfig(cfg, fresh); diff != "" {
		t.Error(diff)
	}
}

func TestQuote(t *testing.T) {
	for _, text := range []string{"", "plain", `a"b\c`, "tab\tline\nreturn\r", "\x00\x1f\x7f", "ü 世"} {
		cfg := mustParse(t, "[engine]\nhash_key = "+conf.Quote("x"+text)+goodPort+goodService)
		if cfg.Engine.HashKey != "x"+text {
			t.Errorf("%q is read as %q", text, cfg.Engine.HashKey)
		}
	}
}
