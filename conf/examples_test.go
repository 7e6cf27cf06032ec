package conf_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/conf"
	"sluice/pipeline/service"
)

func examples(t *testing.T) []string {
	paths, err := filepath.Glob("examples/*.toml")
	if err != nil || len(paths) < 6 {
		t.Fatalf("examples are %v (%v)", paths, err)
	}
	return paths
}

// TestExamples checks that every example is valid, with a Host that has its ports and without one,
// and has no warnings.
func TestExamples(t *testing.T) {
	for _, path := range examples(t) {
		for _, host := range []*conf.Host{nil, exampleHost()} {
			if _, warnings, err := conf.Load(path, host); err != nil || len(warnings) > 0 {
				t.Errorf("%s: %v %v", path, err, warnings)
			}
		}
	}
}

// TestInstalledFile checks that the file installed in /etc/sluice is valid as it is, and with its
// comments removed.
func TestInstalledFile(t *testing.T) {
	cfg, warnings, err := conf.Load("sluice.toml", exampleHost())
	if err != nil || len(warnings) != 1 || len(cfg.Services)+len(cfg.Ports) > 0 {
		t.Errorf("sluice.toml: %v %v %+v", err, warnings, cfg)
	}
	data, err := os.ReadFile("sluice.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(data), "service = []\n")
	if !found {
		t.Fatal("sluice.toml has no line service = []")
	}
	text := strings.ReplaceAll(strings.ReplaceAll("\n"+rest, "\n# ", "\n"), "\n#\n", "\n\n")
	cfg, warnings, err = conf.Parse("sluice.toml", []byte(text), exampleHost())
	if err != nil || len(warnings) > 0 || len(cfg.Services) != 1 {
		t.Errorf("what is commented out: %v %v\n%s", err, warnings, text)
	}
}

// exampleHost is a host as the examples describe it.
func exampleHost() *conf.Host {
	host := testHost()
	eth0 := host.Ports["eth0"]
	eth0.OnLink = append(eth0.OnLink, netip.MustParsePrefix("2001:db8:1::2/64"))
	host.Ports["eth0"] = eth0
	return host
}

// TestExamplesShowAll checks that the examples cover every mode and family, and that mixed.toml
// matches its comments.
func TestExamplesShowAll(t *testing.T) {
	type way struct {
		mode service.Mode
		ipv4 bool
	}
	seen := map[way]bool{}
	for _, path := range examples(t) {
		cfg, _, err := conf.Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range cfg.Services {
			for _, b := range s.Backends {
				seen[way{b.Mode, s.Key.Address.Is4()}] = true
			}
		}
	}
	for _, w := range []way{{service.NAT, true}, {service.NAT, false}, {service.FullNAT, true}, {service.TUN, true}, {service.TUN, false}, {service.DR, true}, {service.DR, false}} {
		if !seen[w] {
			t.Errorf("no example of mode %s, IPv4 %v", w.mode, w.ipv4)
		}
	}
	cfg, _, err := conf.Load("examples/mixed.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range cfg.Services {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"web", "web6", "intranet", "udp-198.51.100.30-514"}, names); diff != "" {
		t.Error(diff)
	}
}
