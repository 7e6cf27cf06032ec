package conf_test

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/conf"
	"sluice/pipeline/service"
)

var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func mustParse(t *testing.T, text string) *conf.Config {
	t.Helper()
	cfg, _, err := conf.Parse("test.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func ipvsTimeouts() conf.Timeouts {
	return conf.Timeouts{
		TCPNone: 2 * time.Second, TCPEstablished: 900 * time.Second, TCPSynSent: 120 * time.Second,
		TCPSynRecv: 60 * time.Second, TCPFinWait: 120 * time.Second, TCPTimeWait: 120 * time.Second,
		TCPClose: 10 * time.Second, TCPCloseWait: 60 * time.Second, TCPLastAck: 30 * time.Second,
		TCPListen: 120 * time.Second, TCPSynAck: 120 * time.Second, UDP: 300 * time.Second,
	}
}

// TestDefaults checks every default with the smallest file.
func TestDefaults(t *testing.T) {
	cfg := mustParse(t, `[[port]]
name = "eth0"
[[service]]
address = "198.51.100.10"
port = 80
[[service.backend]]
address = "10.0.0.11"
`)
	want := &conf.Config{
		Engine: conf.Engine{Connections: 1048576, Batch: 64, Poll: conf.PollAdaptive, StuckAfter: 5 * time.Second, OnStop: conf.OnStopPass, BPFDir: "/sys/fs/bpf/sluice", StateDir: "/var/lib/sluice", HashKey: conf.DefaultHashKey,
			AdoptPerSecond: 100_000},
		Ports: []conf.Port{{Name: "eth0", IO: conf.IOAuto, Line: 1}},
		API:   conf.API{Socket: "/run/sluice/sluice.sock", HTTP: "127.0.0.1:9180", Metrics: conf.MetricsBackends, Reads: conf.ReadsLoopback},
		Services: []conf.Service{{
			Name:      "tcp-198.51.100.10-80",
			Key:       service.Key{Address: netip.MustParseAddr("198.51.100.10"), Ports: service.Ports{First: 80, Last: 80}, Protocol: service.TCP},
			Mode:      service.NAT,
			Scheduler: "wlc",
			Hash:      conf.HashAddress,
			OnDown:    conf.OnDownReset,
			OnRemove:  conf.OnRemoveKeep,
			ICMPEcho:  conf.EchoWhenUp,
			OnIdle:    conf.OnIdleReset,
			Limits:    conf.Limits{SourcePrefix4: 32, SourcePrefix6: 128, Unproven: 0.5},
			Timeouts:  ipvsTimeouts(),
			Health: conf.Health{Type: "none", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3, Via: "path", Path: "/", Query: ".",
				MinHealthy: 50, FlapHold: time.Minute},
			Backends: []conf.Backend{{
				Key:    service.BackendKey{Address: netip.MustParseAddr("10.0.0.11"), Port: 80},
				Weight: 1, Mode: service.NAT, Line: 6,
			}},
			Line: 3,
		}},
	}
	if diff := cmp.Diff(want, cfg, compareAddrs, ignoreText); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestEveryKey checks that a file that sets every key sets every field.
func TestEveryKey(t *testing.T) {
	text := `[engine]
cores = [2, 3]
connections = 2048
batch = 32
poll = "busy"
stuck_after = "7s"
on_stop = "drop"
bpf_dir = "/bpf/lb"
adopt_per_second = 5000
state_dir = ""
hash_key = "secret"
[[port]]
name = "eth0"
queues = [0, 1]
io = "generic"
[timeouts]
tcp_established = "1h"
udp = "1m30s"
[api]
socket = "/tmp/s"
http = ""
host = "lb.example.com"
metrics = "services"
reads = "token"
token_file = "/etc/sluice/token"
[access]
allow = ["192.0.2.7"]
deny = ["192.0.2.0/24", "2001:db8::/32"]
[[service]]
name = "web"
address = "2001:db8:f::10"
port = "8000-8099"
protocol = "udp"
mode = "fullnat"
scheduler = "mh"
hash = "address-port"
adopt = "never"
persistence = "5m"
source = ["2001:db8::2", "2001:db8::3"]
on_down = "keep"
on_remove = "reset"
icmp_echo = "always"
on_idle = "silent"
slow_start = "30s"
[service.access]
allow = []
allow_file = "/TESTDATA/allow.txt"
deny_file = "/TESTDATA/deny.txt"
[service.limits]
connections = 100
new_per_second = 50
source_connections = 10
source_new_per_second = 5
source_prefix4 = 24
source_prefix6 = 64
unproven = 0.25
[service.timeouts]
udp = "10s"
tcp_none = "3s"
[service.health]
type = "https"
interval = "5s"
timeout = "2s"
rise = 4
fall = 5
port = 8443
via = "direct"
path = "/up?x=1"
host = "www.example.com"
expect_status = [200, 301]
expect_body = "ok"
send = "a\r\n"
expect = "b"
query = "example.com"
min_healthy = 75
flap_hold = "5m"
[service.sorry]
address = "2001:db8::99"
port = 8080
[[service.backend]]
address = "2001:db8::11"
port = 9000
weight = 0
max_connections = 20
min_connections = 10
[[service.backend]]
address = "203.0.113.12"
weight = 7
mode = "tun"
`
	text = withTestdata(t, text)
	prefix := netip.MustParsePrefix
	timeouts := ipvsTimeouts()
	timeouts.TCPEstablished, timeouts.UDP, timeouts.TCPNone = time.Hour, 10*time.Second, 3*time.Second
	want := &conf.Config{
		Engine: conf.Engine{Cores: []int{2, 3}, Connections: 2048, Batch: 32, Poll: conf.PollBusy, StuckAfter: 7 * time.Second, OnStop: conf.OnStopDrop, BPFDir: "/bpf/lb", HashKey: "secret",
			AdoptPerSecond: 5000},
		Ports:  []conf.Port{{Name: "eth0", Queues: []int{0, 1}, IO: conf.IOGeneric, Line: 12}},
		API:    conf.API{Socket: "/tmp/s", HTTP: "", Host: "lb.example.com", Metrics: conf.MetricsServices, Reads: conf.ReadsToken, TokenFile: "/etc/sluice/token"},
		Access: conf.Access{Allow: []netip.Prefix{prefix("192.0.2.7/32")}, Deny: []netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8::/32")}},
		Services: []conf.Service{{
			Name:        "web",
			Key:         service.Key{Address: netip.MustParseAddr("2001:db8:f::10"), Ports: service.Ports{First: 8000, Last: 8099}, Protocol: service.UDP},
			Mode:        service.FullNAT,
			Scheduler:   "mh",
			Hash:        conf.HashAddressPort,
			Adopt:       conf.AdoptNever,
			Persistence: 5 * time.Minute,
			Source:      []netip.Addr{netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::3")},
			OnDown:      conf.OnDownKeep,
			OnRemove:    conf.OnRemoveReset,
			ICMPEcho:    conf.EchoAlways,
			OnIdle:      conf.OnIdleSilent,
			SlowStart:   30 * time.Second,
			Access: conf.Access{
				Allow:     []netip.Prefix{},
				AllowFile: &conf.PrefixFile{Path: withTestdata(t, "/TESTDATA/allow.txt"), Prefixes: []netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8:7::/48")}, Lines: []int32{3, 4}},
				DenyFile:  &conf.PrefixFile{Path: withTestdata(t, "/TESTDATA/deny.txt"), Prefixes: []netip.Prefix{prefix("192.0.2.128/25"), prefix("192.0.2.7/32")}, Lines: []int32{1, 2}},
			},
			Limits:   conf.Limits{Connections: 100, NewPerSecond: 50, SourceConnections: 10, SourceNewPerSecond: 5, SourcePrefix4: 24, SourcePrefix6: 64, Unproven: 0.25},
			Timeouts: timeouts,
			Health: conf.Health{Type: "https", Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 4, Fall: 5, Port: 8443,
				Via: "direct", Path: "/up?x=1", Host: "www.example.com", ExpectStatus: []int{200, 301}, ExpectBody: "ok", Send: "a\r\n", Expect: "b", Query: "example.com",
				MinHealthy: 75, FlapHold: 5 * time.Minute},
			Sorry: &conf.Backend{Key: service.BackendKey{Address: netip.MustParseAddr("2001:db8::99"), Port: 8080}, Weight: 1, Mode: service.FullNAT, Line: 77},
			Backends: []conf.Backend{
				{Key: service.BackendKey{Address: netip.MustParseAddr("2001:db8::11"), Port: 9000}, Weight: 0, Mode: service.FullNAT, MaxConnections: 20, MinConnections: 10, Line: 80},
				{Key: service.BackendKey{Address: netip.MustParseAddr("203.0.113.12")}, Weight: 7, Mode: service.TUN, Line: 86},
			},
			Line: 29,
		}},
	}
	if diff := cmp.Diff(want, mustParse(t, text), compareAddrs, ignoreText); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, s := range conf.Settings { // the text above has every key
		if s.Kind != conf.Table && s.Kind != conf.Tables && !strings.HasSuffix(s.Table, "timeouts") && !strings.Contains(text, "\n"+s.Key+" = ") {
			t.Errorf("TestEveryKey does not try %s.%s", s.Table, s.Key)
		}
	}
}

// TestTimeouts checks that every timeout sets its own field, globally and in a service.
func TestTimeouts(t *testing.T) {
	for _, s := range conf.Settings {
		if s.Table != "timeouts" {
			continue
		}
		value := "\n" + s.Key + " = \"77s\"\n"
		global := mustParse(t, goodPort+"[timeouts]"+value+goodService).Services[0].Timeouts
		own := mustParse(t, goodPort+"[timeouts]\n"+s.Key+" = \"55s\"\n"+goodService+"[service.timeouts]"+value).Services[0].Timeouts
		if global != own {
			t.Errorf("%s: %+v globally, %+v in a service", s.Key, global, own)
		}
		if diff := cmp.Diff(ipvsTimeouts(), global); strings.Count(diff, "\n+") != 1 {
			t.Errorf("%s changes something else:\n%s", s.Key, diff)
		}
		name := strings.ToLower(strings.ReplaceAll(s.Key, "_", ""))
		if diff := strings.ToLower(cmp.Diff(ipvsTimeouts(), global)); !strings.Contains(diff, name+":") {
			t.Errorf("%s changes another field:\n%s", s.Key, diff)
		}
	}
}

func TestBackendPorts(t *testing.T) {
	for _, c := range []struct {
		service, mode, backend string
		want                   uint16
	}{
		{`80`, "nat", ``, 80},
		{`80`, "nat", `port = 8080`, 8080},
		{`80`, "nat", `port = "8080"`, 8080},
		{`"any"`, "nat", ``, 0},
		{`"any"`, "nat", `port = "any"`, 0},
		{`"any"`, "nat", `port = 80`, 80},
		{`"80-90"`, "nat", ``, 0},
		{`"80-90"`, "nat", `port = 85`, 85},
		{`80`, "tun", ``, 80},
		{`80`, "dr", `port = 80`, 80},
		{`"80-90"`, "tun", ``, 0},
		{`"80-90"`, "dr", `port = "80-90"`, 0},
		{`"any"`, "dr", ``, 0},
	} {
		cfg := mustParse(t, fmt.Sprintf("%s[[service]]\naddress = \"198.51.100.10\"\nport = %s\nmode = %q\n[[service.backend]]\naddress = \"10.0.0.11\"\n%s\n",
			goodPort, c.service, c.mode, c.backend))
		if got := cfg.Services[0].Backends[0].Key.Port; got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

func TestDerivedNames(t *testing.T) {
	for _, c := range []struct{ address, port, protocol, want string }{
		{"198.51.100.10", `80`, "tcp", "tcp-198.51.100.10-80"},
		{"2001:DB8:0::10", `"any"`, "udp", "udp-2001:db8::10-any"},
		{"198.51.100.10", `"8000-8099"`, "tcp", "tcp-198.51.100.10-8000-8099"},
	} {
		cfg := mustParse(t, fmt.Sprintf("%s[[service]]\naddress = %q\nport = %s\nprotocol = %q\nmode = \"tun\"\n[[service.backend]]\naddress = \"10.0.0.11\"\n",
			goodPort, c.address, c.port, c.protocol))
		if got := cfg.Services[0].Name; got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestForms checks that other spellings of a file mean the same.
func TestForms(t *testing.T) {
	plain := mustParse(t, "[[port]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\naddress = \"198.51.100.10\"\nport = 80\n"+
		"[service.health]\ntype = \"http\"\n[[service.backend]]\naddress = \"10.0.0.11\"\n")
	for name, text := range map[string]string{
		"CRLF":   "[[port]]\r\nname = \"eth0\"\r\n[[service]]\r\nname = \"web\"\r\naddress = \"198.51.100.10\"\r\nport = 80\r\n[service.health]\r\ntype = \"http\"\r\n[[service.backend]]\r\naddress = \"10.0.0.11\"\r\n",
		"BOM":    "\ufeff[[port]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\naddress = \"198.51.100.10\"\nport = 80\n[service.health]\ntype = \"http\"\n[[service.backend]]\naddress = \"10.0.0.11\"\n",
		"inline": "port = [{name = \"eth0\"}]\n\n[[service]]\nname = \"web\"\naddress = \"198.51.100.10\"\nport = 80\nhealth = {type = \"http\"}\nbackend = [{\naddress = \"10.0.0.11\"}]\n",
		"dotted": "[[port]]\nname = 'eth0'\n[[ \"service\" ]] # web\n\"name\" = '''web'''\naddress = \"198.51.100.10\"\n'port' = 0x50\nhealth.type = \"http\"\n\n[[service . \"backend\"]]\naddress = \"10.0.0.11\"",
	} {
		if diff := cmp.Diff(plain, mustParse(t, text), compareAddrs, ignoreText, cmp.FilterPath(isLine, cmp.Ignore())); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// ignoreText ignores the text that a Config was read from.
var ignoreText = cmpopts.IgnoreFields(conf.Config{}, "Text")

func isLine(p cmp.Path) bool { return p.Last().String() == ".Line" }

// TestCutAnywhere checks that a file cut anywhere gives a Config or errors, never both, and no
// panic.
func TestCutAnywhere(t *testing.T) {
	for _, path := range examples(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if testing.Short() {
			step = 17
		}
		for n := 0; n < len(data); n += step {
			cfg, _, err := conf.Parse(path, data[:n], nil)
			if (cfg == nil) == (err == nil) {
				t.Fatalf("%s, %d bytes: %v, %v", path, n, cfg, err)
			}
			for _, p := range problemsOf(t, err) {
				if last := bytes.Count(data[:n], []byte("\n")) + 1; p.Line < 1 || p.Line > last {
					t.Fatalf("%s, %d bytes: line outside of 1 to %d: %v", path, n, last, p)
				}
			}
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := []struct{ name, path, part string }{
		{"missing", filepath.Join(dir, "none.toml"), "cannot be read: no such file or directory"},
		{"directory", dir, "is a directory"},
		{"device", "/dev/null", "is not a regular file"},
		{"huge", write("huge.toml", bytes.Repeat([]byte("\n"), 32<<20+1), 0o600), "32 MiB"},
		{"empty", write("empty.toml", nil, 0o600), "port: is missing"},
		{"zero byte", write("zero.toml", []byte("a\x00"), 0o600), "zero byte"},
	}
	if os.Geteuid() != 0 { // root may read all files
		cases = append(cases, struct{ name, path, part string }{"rights", write("secret.toml", nil, 0), "permission denied"})
	}
	for _, c := range cases {
		cfg, _, err := conf.Load(c.path, nil)
		if cfg != nil || err == nil || !strings.Contains(err.Error(), c.part) || !strings.HasPrefix(err.Error(), c.path+":") {
			t.Errorf("%s: %v, %v", c.name, cfg, err)
		}
	}
	if _, _, err := conf.Load(write("full.toml", append(bytes.Repeat([]byte("\n"), 32<<20-200), goodPort+goodService...), 0o600), nil); err != nil {
		t.Errorf("a file of almost 32 MiB: %v", err)
	}
}

// bigFile returns a file with 1000 services of 100 backends each.
func bigFile() []byte {
	var b bytes.Buffer
	b.WriteString(goodPort)
	for i := range 1000 {
		fmt.Fprintf(&b, "\n[[service]]\nname = \"s%d\"\naddress = \"198.18.%d.%d\"\nport = 80\nscheduler = \"mh\"\n\n  [service.health]\n  type = \"tcp\"\n", i, i/250, i%250+1)
		for j := range 100 {
			fmt.Fprintf(&b, "\n  [[service.backend]]\n  address = \"10.1%d.%d.%d\"\n  port = 8080\n  weight = 10\n", i/250, i%250, j+1)
		}
	}
	return b.Bytes()
}

func TestBigFile(t *testing.T) {
	cfg, _, err := conf.Parse("big.toml", bigFile(), testHost())
	if err != nil {
		t.Fatal(err)
	}
	last := cfg.Services[999].Backends[99]
	if len(cfg.Services) != 1000 || len(cfg.Services[999].Backends) != 100 || last.Key.String() != "10.13.249.100:8080" {
		t.Errorf("%d services, last backend %+v", len(cfg.Services), last)
	}
	if want := bytes.Count(bigFile(), []byte("\n")) - 3; last.Line != want {
		t.Errorf("last backend at line %d, want %d", last.Line, want)
	}
}

func BenchmarkParseBig(b *testing.B) {
	data := bigFile()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, _, err := conf.Parse("big.toml", data, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestEveryLineWrong checks that a file with an error in every line is not slower by orders of
// magnitude, and that the list of errors has an end, which says how many are missing.
func TestEveryLineWrong(t *testing.T) {
	var b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&b, "key%d = %d\n", i, math.MaxInt64)
	}
	_, _, err := conf.Parse("bad.toml", []byte(b.String()), nil)
	all := problemsOf(t, err)
	// With those for no port and no service.
	if last := all[len(all)-1].Text; len(all) != 10_001 || last != "10002 more errors are not listed" {
		t.Errorf("%d errors, the last: %s", len(all), last)
	}
}

// TestLimits: the limits of a configuration hold for all services together.
func TestLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("parses 262,145 backends")
	}
	var b strings.Builder
	b.WriteString(goodPort)
	for s := range 5 {
		fmt.Fprintf(&b, "[[service]]\naddress = \"198.51.100.%d\"\nport = 80\n", 1+s)
		for n := range conf.MaxBackends/5 + 1 {
			fmt.Fprintf(&b, "[[service.backend]]\naddress = \"10.%d.%d.%d\"\n", n>>16, n>>8&255, n&255)
		}
	}
	_, _, err := conf.Parse("test.toml", []byte(b.String()), nil)
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "allowed: at most 262144 in all services together") {
		t.Errorf("%.300v", err)
	}
}
