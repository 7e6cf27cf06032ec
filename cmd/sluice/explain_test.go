package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

// offlineConfig is a file about interfaces that no machine has.
func offlineConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "offline.toml")
	text := `
[[port]]
name = "front"
[[port]]
name = "back"
[[service]]
name = "web"
address = "198.51.100.10"
port = 80
mode = "nat"
scheduler = "rr"
backend = [ { address = "10.9.0.11", port = 8080 }, { address = "10.9.0.12", port = 8080 } ]
[[service]]
name = "six"
address = "2001:db8::10"
port = 53
protocol = "udp"
mode = "tun"
scheduler = "sh"
backend = [ { address = "2001:db8:a::11" } ]
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestExplainOffline: a file and a tuple, in any of its forms, are enough.
func TestExplainOffline(t *testing.T) {
	t.Parallel()
	file := offlineConfig(t)
	for _, c := range []struct {
		args string
		says []string
	}{
		{"tcp|203.0.113.5:4000|198.51.100.10:80", []string{"tcp 203.0.113.5:4000 -> 198.51.100.10:80\n", "= verdict     forwarded to 10.9.0.12:8080 by back\n"}},
		{"tcp 203.0.113.5:4000 -> 198.51.100.10:80", []string{"= verdict     forwarded to 10.9.0.12:8080 by back\n"}},
		{"tcp|203.0.113.5|198.51.100.10:80", []string{"  client      has no connection to the service: port 40000 is assumed\n"}},
		{"udp|[2001:db8:1::5]:4000|>|[2001:db8::10]:53", []string{"! size ", "! verdict     forwarded to [2001:db8:a::11]:53 by back, but see the marked lines\n"}},
		{"udp|[2001:db8:1::5]:4000|[2001:db8::10]:53|--mtu|1400", []string{"a full packet of 1400 bytes becomes 1440"}},
		{"udp|2001:db8:1::5|[2001:db8::10]:53|--bytes|1461", []string{"answered: ICMP packet too big, mtu 1460"}},
		{"tcp|203.0.113.5:4000|198.51.100.10:81", []string{"! service     none for tcp port 81: 198.51.100.10 has web (tcp 80)\n", "! verdict     passed to the kernel: "}},
		{"udp|10.9.0.11:8080|224.0.0.251:5353", []string{"! service     none at 224.0.0.251"}},
		{"tcp|10.9.0.11:8080|224.0.0.251:5353", []string{"  steer       to the kernel: 224.0.0.251 is a multicast address", "! verdict     passed to the kernel: a nat backend sends to an address that no client has\n"}},
		{"tcp|10.9.0.11:8080|255.255.255.255:80", []string{"  steer       to the kernel: 255.255.255.255 is the broadcast address"}},
		{"tcp|203.0.113.5:4000|198.51.100.10:80|--neighbours|10.9.0.11", []string{"! backend     10.9.0.12:8080 gets new connections", "! verdict     dropped: no_neighbour"}},
	} {
		args := append([]string{"explain", "--config", file}, strings.Split(c.args, "|")...)
		code, out, errs := sluice(args...)
		for _, text := range c.says {
			if code != 0 || !strings.Contains(out, text) {
				t.Errorf("%q: exit code %d, %q is not in\n%s%s", c.args, code, text, out, errs)
			}
		}
	}
	_, out, _ := sluice("explain", "--config", file, "-o", "json", "tcp", "203.0.113.5:4000", "198.51.100.10:80")
	var e api.Explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil || !e.OK || e.Service != "web" || e.Backend != "10.9.0.12:8080" || len(e.Steps) < 8 {
		t.Error(err, out)
	}
}

func TestExplainUsage(t *testing.T) {
	file := offlineConfig(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{}, cli.ExitUsage, "must be PROTOCOL FROM TO"},
		{[]string{"tcp", "203.0.113.5:4000"}, cli.ExitUsage, "must be PROTOCOL FROM TO"},
		{[]string{"sctp", "203.0.113.5:4000", "198.51.100.10:80"}, cli.ExitUsage, "not one of tcp, udp"},
		{[]string{"tcp", "203.0.113.5:4000", "198.51.100.10"}, cli.ExitUsage, "has no port"},
		{[]string{"tcp", "2001:db8::1:80", "198.51.100.10:80"}, cli.ExitUsage, "different families"},
		{[]string{"tcp", "host:80", "198.51.100.10:80"}, cli.ExitUsage, "must be address:port or an address"},
		{[]string{"tcp", "203.0.113.5:1", "198.51.100.10:80", "--bytes", "9999"}, cli.ExitFailed, "at most"},
		{[]string{"tcp", "203.0.113.5:1", "198.51.100.10:80", "--mtu", "20"}, cli.ExitUsage, "--mtu"},
		{[]string{"tcp", "203.0.113.5:1", "198.51.100.10:80", "--neighbours", "me"}, cli.ExitUsage, "--neighbours"},
		{[]string{"tcp", "203.0.113.5:1", "198.51.100.10:80", "--config", file + ".none"}, cli.ExitFailed, "offline.toml.none"},
	} {
		args := append([]string{"explain", "--config", file}, c.args...)
		code, _, errs := sluice(args...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit code %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
	if code, _, errs := sluice("explain", "--socket", file+".sock", "tcp", "203.0.113.5:1", "198.51.100.10:80"); code != cli.ExitFailed || !strings.Contains(errs, "no sluice answers") {
		t.Error(code, errs)
	}
}
