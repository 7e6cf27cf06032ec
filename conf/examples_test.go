package conf_test

import (
	"net/netip"
	"path/filepath"
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

// Every example is valid, with a Host that has its ports and without one, and has no warnings.
func TestExamples(t *testing.T) {
	for _, path := range examples(t) {
		for _, host := range []*conf.Host{nil, exampleMachine()} {
			if _, warnings, err := conf.Load(path, host); err != nil || len(warnings) > 0 {
				t.Errorf("%s: %v %v", path, err, warnings)
			}
		}
	}
}

// exampleMachine has what the examples say about their box.
func exampleMachine() *conf.Host {
	host := machine()
	eth0 := host.Ports["eth0"]
	eth0.OnLink = append(eth0.OnLink, netip.MustParsePrefix("2001:db8:1::2/64"))
	host.Ports["eth0"] = eth0
	return host
}

// The examples show every mode and family, and mixed.toml what its comments promise.
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
