package conf_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/conf"
)

// everyKey is a file with every key, none with its default.
const everyKey = "testdata/every.toml"

func sameConfig(a, b *conf.Config) string {
	return cmp.Diff(a, b, compareAddrs, cmp.FilterPath(isLine, cmp.Ignore()), cmpopts.IgnoreFields(conf.Config{}, "Text"))
}

// TestFormat checks that the output of Format is read as the same configuration, and formatted the
// same way again.
func TestFormat(t *testing.T) {
	for _, path := range append(examples(t), everyKey) {
		cfg, _, err := conf.Load(path, nil)
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
