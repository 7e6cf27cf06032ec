package conf_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/conf"
)

const diffBase = `[engine]
cores = [1]
[[port]]
name = "eth0"
[[service]]
name = "web"
address = "198.51.100.10"
port = 80
[service.health]
type = "tcp"
[[service.backend]]
address = "10.0.0.11"
port = 8080
[[service.backend]]
address = "10.0.0.12"
port = 8080
[[service]]
name = "dns"
address = "198.51.100.10"
port = 53
protocol = "udp"
[[service.backend]]
address = "10.0.0.21"
`

func TestDiff(t *testing.T) {
	dns := diffBase[strings.LastIndex(diffBase, "[[service]]"):]
	for _, c := range []struct {
		name, old, new string // replaced in diffBase
		want           []conf.Change
	}{
		{"nothing", "", "", nil},
		{"weight", "8080\n[[service.backend]]", "8080\nweight = 0\n[[service.backend]]",
			[]conf.Change{{"service web: backend 10.0.0.11:8080 weight 1 -> 0", false}}},
		{"mode of a backend", `"10.0.0.21"`, "\"10.0.0.21\"\nmode = \"tun\"", []conf.Change{{"service dns: backend 10.0.0.21:53 mode nat -> tun", false}}},
		{"backend exchanged", "10.0.0.12", "10.0.0.13", []conf.Change{
			{"service web: added backend 10.0.0.13:8080 (nat, weight 1)", false},
			{"service web: removed backend 10.0.0.12:8080", false}}},
		{"service removed", dns, "", []conf.Change{{"removed service dns (udp 198.51.100.10:53, nat, wlc, 1 backend)", false}}},
		{"service moved", `port = 80
[service.health]`, `port = 81
[service.health]`, []conf.Change{
			{"added service web (tcp 198.51.100.10:81, nat, wlc, 2 backends)", false},
			{"removed service web (tcp 198.51.100.10:80, nat, wlc, 2 backends)", false}}},
		{"service renamed", `"dns"`, `"resolver"`, []conf.Change{{"service resolver: name dns -> resolver", false}}},
		{"scheduler and persistence", `name = "web"`, "name = \"web\"\nscheduler = \"mh\"\npersistence = \"5m\"", []conf.Change{
			{"service web: scheduler wlc -> mh", false}, {"service web: persistence 0s -> 5m", false}}},
		{"timeouts", "[[port]]", "[timeouts]\nudp = \"1h\"\n[[port]]", []conf.Change{
			{"service web: timeout udp 5m -> 1h", false}, {"service dns: timeout udp 5m -> 1h", false}}},
		{"health path", `type = "tcp"`, "type = \"tcp\"\nvia = \"direct\"", []conf.Change{{"service web: health via path -> direct", false}}},
		{"health", `type = "tcp"`, "type = \"http\"\npath = \"/up\"", []conf.Change{
			{"service web: health type tcp -> http", false}, {"service web: health path / -> /up", false}}},
		{"protection", `type = "tcp"`, "type = \"tcp\"\nmin_healthy = 0\nflap_hold = \"0s\"", []conf.Change{
			{"service web: health min_healthy 50 -> 0", false}, {"service web: health flap_hold 1m -> 0s", false}}},
		{"connections of a backend that is down", `name = "web"`, "name = \"web\"\non_down = \"keep\"\nslow_start = \"30s\"", []conf.Change{
			{"service web: on_down reset -> keep", false}, {"service web: slow_start 0s -> 30s", false}}},
		{"sorry server", `name = "web"`, "name = \"web\"\nsorry = { address = \"10.0.0.99\", port = 8080 }", []conf.Change{
			{"service web: sorry none -> 10.0.0.99:8080 (nat)", false}}},
		{"engine", "cores = [1]", "cores = [1, 2]\nbatch = 32\nconnections = 2048", []conf.Change{
			{"engine: cores [1] -> [1 2]", true}, {"engine: connections 1048576 -> 2048", true}, {"engine: batch 64 -> 32", true}}},
		{"default cores", "cores = [1]", "", []conf.Change{{"engine: cores [1] -> default", true}}},
		{"state directory", "cores = [1]", "cores = [1]\nstate_dir = \"\"", []conf.Change{{`engine: state_dir "/var/lib/sluice" -> ""`, true}}},
		{"hash key", "cores = [1]", "cores = [1]\nhash_key = \"s3cret\"",
			[]conf.Change{{"engine: hash_key changed, so mh services choose other backends for new connections", false}}},
		{"port options", `"eth0"`, "\"eth0\"\nio = \"copy\"\nqueues = [0]", []conf.Change{
			{"port eth0: queues every -> [0]", true}, {"port eth0: io auto -> copy", true}}},
		{"port exchanged", `"eth0"`, `"eth1"`, []conf.Change{{"added port eth1", true}, {"removed port eth0", true}}},
		{"api", "[[port]]", "[api]\nsocket = \"/run/s\"\nhttp = \"\"\n[[port]]", []conf.Change{
			{"api: socket /run/sluice/sluice.sock -> /run/s", true}, {`api: http "127.0.0.1:9180" -> ""`, true}}},
		{"api access", "[[port]]", "[api]\nhost = \"lb\"\nmetrics = \"services\"\nreads = \"open\"\ntoken_file = \"/t\"\n[[port]]", []conf.Change{
			{`api: host "" -> "lb"`, true}, {"api: metrics backends -> services", true}, {"api: reads loopback -> open", true}, {`api: token_file "" -> "/t"`, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := diffBase
			if c.old != "" {
				if text = strings.Replace(diffBase, c.old, c.new, 1); text == diffBase {
					t.Fatalf("the base has no %q", c.old)
				}
			}
			got := conf.Diff(mustParse(t, diffBase), mustParse(t, text))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestDiffBetweenExamples checks that order, spelling and comments are no change, and that a change
// in one direction is one in the other.
func TestDiffBetweenExamples(t *testing.T) {
	var all []*conf.Config
	for _, path := range examples(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cfg := mustParse(t, string(data))
		if changes := conf.Diff(cfg, mustParse(t, "# moved\n\n"+string(data))); changes != nil {
			t.Errorf("%s differs from itself: %v", path, changes)
		}
		all = append(all, cfg)
	}
	for i, a := range all {
		for j, b := range all {
			if there, back := conf.Diff(a, b), conf.Diff(b, a); (len(there) == 0) != (i == j) || len(there) != len(back) {
				t.Errorf("example %d to %d: %d changes, and %d back", i, j, len(there), len(back))
			}
		}
	}
}

// TestDiffSeesEveryKey takes one key after the other out of the file that has every key, none with
// its default: each is a change. Those that a file must have are left out.
func TestDiffSeesEveryKey(t *testing.T) {
	text := everyKeyText(t)
	whole := mustParse(t, text)
	lines := strings.SplitAfter(text, "\n")
	compared := 0
	for i, line := range lines {
		if !strings.Contains(line, " = ") {
			continue
		}
		cfg, _, err := conf.Parse("test.toml", []byte(strings.Join(lines[:i], "")+strings.Join(lines[i+1:], "")), nil)
		if err != nil {
			continue
		}
		if compared++; len(conf.Diff(whole, cfg)) == 0 {
			t.Errorf("line %d, %q: Diff sees no change without it", i+1, strings.TrimSpace(line))
		}
	}
	if compared < 50 {
		t.Errorf("only %d keys were compared", compared)
	}
}
