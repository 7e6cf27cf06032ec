package flow_test

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/tools/pktgen/flow"
)

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		text        string
		first, last string // items
		size        uint32
	}{
		{"198.51.100.10:80", "198.51.100.10:80", "198.51.100.10:80", 1},
		{"10.0.0.1-10.0.0.9:5000-5999", "10.0.0.1:5000", "10.0.0.9:5999", 9000},
		{"10.0.0.0/30:7", "10.0.0.1:7", "10.0.0.2:7", 2},
		{"10.0.0.77/31:7", "10.0.0.76:7", "10.0.0.77:7", 2},
		{"10.0.0.77/32:7", "10.0.0.77:7", "10.0.0.77:7", 1},
		{"10.0.0.0/8:0-65534", "10.0.0.1:0", "10.1.0.0:65534", 65536 * 65535},
		{"[2001:db8::1]:443", "[2001:db8::1]:443", "[2001:db8::1]:443", 1},
		{"[2001:db8::/126]:1-2", "[2001:db8::1]:1", "[2001:db8::2]:2", 4},
		{"[2001:db8::/64]:80", "[2001:db8::1]:80", "[2001:db8::1:0]:80", 65536},
		{"[2001:db8::fffe-2001:db8::1:1]:80", "[2001:db8::fffe]:80", "[2001:db8::1:1]:80", 4},
		{"[::ffff:10.0.0.1]:80", "10.0.0.1:80", "10.0.0.1:80", 1},
	} {
		r, err := flow.ParseRange(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if r.Size() != c.size {
			t.Errorf("%s has %d items, want %d", c.text, r.Size(), c.size)
		}
		if first, last := r.At(0), r.At(r.Size()-1); first != netip.MustParseAddrPort(c.first) || last != netip.MustParseAddrPort(c.last) {
			t.Errorf("%s goes from %v to %v, want %s to %s", c.text, first, last, c.first, c.last)
		}
		if r.At(r.Size()) != r.At(0) && r.Size() < 1<<31 {
			t.Errorf("%s doesn't begin again after its last item", c.text)
		}
		again, err := flow.ParseRange(r.String())
		if err != nil || again != r {
			t.Errorf("%s is written as %s, which reads as %v, %v", c.text, r, again, err)
		}
	}
}

func TestParseSourceHasClientPorts(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "2001:db8::1", "[2001:db8::1]"} {
		r, err := flow.ParseSource(text)
		if err != nil || r.FirstPort != 1024 || r.Ports != 64512 {
			t.Errorf("%s: %v, %v", text, r, err)
		}
	}
}

func TestParseRangeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "no port",
		"10.0.0.1":                   "no port",
		"2001:db8::1":                "no port",
		"10.0.0.1:":                  "after the colon",
		"10.0.0.1:0-65536":           "0 to 65535",
		"10.0.0.1:9-8":               "FIRST-LAST",
		"10.0.0.256:80":              "isn't an IP address",
		"host:80":                    "isn't an IP address",
		"10.0.0.0/33:80":             "isn't a prefix",
		"10.0.0.9-10.0.0.1:80":       "doesn't follow",
		"[10.0.0.9-::1]:80":          "doesn't follow",
		"[2001:db8::1:80":            "bracket isn't closed",
		"[2001:db8::1]80":            "after the bracket",
		"[fe80::1%eth0]:80":          "isn't an IP address",
		"[::1-1::1]:80":              "last 32 bits",
		"0.0.0.0-255.255.255.255:80": "last 32 bits",
		"10.0.0.0/8:0-65535":         "more than 2^32-1 endpoints",
	} {
		_, err := flow.ParseRange(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
