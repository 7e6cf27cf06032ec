package draft

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"sluice/conf"
	"sluice/pipeline/service"
)

func one(line int, name, address string, port uint16, backends ...string) Service {
	s := Service{Service: conf.NewService(), From: Place{"a.conf", line}}
	s.Name = name
	s.Key = service.Key{Address: netip.MustParseAddr(address), Ports: service.Ports{First: port, Last: port}, Protocol: service.TCP}
	for i, b := range backends {
		s.Backends = append(s.Backends, Backend{conf.Backend{
			Key: service.BackendKey{Address: netip.MustParseAddr(b), Port: port}, Weight: 1, Mode: s.Mode,
		}, Place{"a.conf", line + 1 + i}})
	}
	return s
}

// TestSettle checks that what Sluice refuses is removed and noted, and that the rest is valid.
func TestSettle(t *testing.T) {
	d := &Draft{Origin: "a.conf"}
	d.Add(one(1, "web", "192.0.2.1", 80, "10.0.0.1", "10.0.0.2", "10.0.0.1"))
	d.Add(one(10, "web", "192.0.2.1", 443, "10.0.0.1"))
	d.Add(one(20, "web", "192.0.2.1", 80, "10.0.0.1"))
	d.Add(one(30, "bad", "192.0.2.3", 80, "2001:db8::1"))
	d.Add(one(40, "", "127.0.0.1", 80, "10.0.0.1"))
	sorry := d.Services[0].Backends[0].Backend // of its own service
	d.Services[0].Sorry = &sorry
	d.Note(Place{"a.conf", 5}, "said\x07 before")
	if err := d.Settle(); err != nil {
		t.Fatal(err)
	}
	text := string(d.TOML())
	cfg, warnings, err := conf.Parse("t", []byte(text), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if len(cfg.Services) != 2 || cfg.Services[0].Name != "web" || cfg.Services[1].Name != "web-tcp" || len(cfg.Services[0].Backends) != 2 {
		t.Errorf("left are %+v", cfg.Services)
	}
	var lines []string
	for _, n := range d.Notes {
		lines = append(lines, n.String())
		if !strings.Contains(text, conf.Printable(n.String())) {
			t.Errorf("the file does not say %q:\n%s", n, text)
		}
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{"a.conf:1: sorry server 10.0.0.1:80", "a.conf:4: backend 10.0.0.1:80", "a.conf:5: said", "a.conf:20: service tcp 192.0.2.1:80 is left out",
		"a.conf:31: backend [2001:db8::1]:80", "a.conf:40: service tcp 127.0.0.1:80"} {
		if !strings.Contains(all, want) {
			t.Errorf("no note %q in\n%s", want, all)
		}
	}
	if strings.Contains(all, "line") {
		t.Errorf("a note speaks of lines of the draft:\n%s", all)
	}
}

func TestNothingIsLeft(t *testing.T) {
	d := &Draft{}
	d.Add(one(30, "bad", "192.0.2.3", 80, "2001:db8::1"))
	if err := d.Settle(); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
}

// TestManyAlike checks that of many equal problems each is noted and removed.
func TestManyAlike(t *testing.T) {
	d := &Draft{Origin: "a.conf"}
	for i := range 200 {
		d.Add(one(10*i, "", netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String(), 80, "10.0.0.1", "2001:db8::1"))
	}
	if err := d.Settle(); err != nil {
		t.Fatal(err)
	}
	if len(d.Services) != 200 || len(d.Notes) != 200 {
		t.Errorf("%d services, %d notes, such as %v", len(d.Services), len(d.Notes), d.Notes[:min(3, len(d.Notes))])
	}
}
