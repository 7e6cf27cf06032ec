package conf_test

import (
	"strings"
	"testing"

	"sluice/conf"
	"sluice/tools/reference"
)

// TestReference checks that README.md is current.
func TestReference(t *testing.T) { reference.Whole(t, conf.Reference()) }

// TestSettings checks that each row is complete, each key is unique, and each default is allowed.
func TestSettings(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range conf.Settings {
		key := s.Table + "." + s.Key
		if seen[key] {
			t.Errorf("%s has two rows", key)
		}
		seen[key] = true
		if s.Allowed() == "" || s.About == "" {
			t.Errorf("%s does not say what is legal (%q) or what it is for (%q)", key, s.Allowed(), s.About)
		}
	}
	written := map[string][]string{}
	for line := range strings.SplitSeq(conf.Reference(), "\n") {
		if cells := strings.Split(line, " | "); len(cells) == 4 && strings.HasPrefix(line, "| `") {
			written[cells[2]] = append(written[cells[2]], cells[0])
		}
	}
	if len(written["`\"15m\"`"]) != 1 || len(written["`1048576`"]) != 1 {
		t.Errorf("the reference lacks known defaults: %v", written)
	}
}
