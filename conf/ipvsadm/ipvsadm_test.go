package ipvsadm_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/conf/ipvsadm"
)

const dump = `-A -t 198.51.100.10:80 -s wlc -p 300
-a -t 198.51.100.10:80 -r 10.0.0.11:8080 -m -w 2
-a -t 198.51.100.10:80 -r 10.0.0.12:80 -m -w 0
-A -u 198.51.100.10:53 -s rr
-a -u 198.51.100.10:53 -r 10.0.0.11:53 -g -w 1
-a -u 198.51.100.10:53 -r 10.0.0.12:53 -i -w 1
-A -t [2001:db8::10]:443 -s mh -b mh-fallback
-a -t [2001:db8::10]:443 -r [2001:db8:a::11]:443 -g -w 1
-A -t 198.51.100.11:0 -s sh -p 3600 -b sh-fallback
-a -t 198.51.100.11:0 -r 10.0.0.11:0 -m -w 65535
`

func notes(d *draft.Draft) string {
	var b strings.Builder
	for _, n := range d.Notes {
		b.WriteString(n.String() + "\n")
	}
	return b.String()
}

func parse(t *testing.T, text string) (*draft.Draft, *conf.Config) {
	t.Helper()
	d, err := ipvsadm.Parse("dump", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	cfg, warnings, err := conf.Parse("t.toml", d.TOML(), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v %v\n%s", err, warnings, d.TOML())
	}
	return d, cfg
}

// TestRoundTrip checks that what was imported is exported unchanged.
func TestRoundTrip(t *testing.T) {
	d, cfg := parse(t, dump)
	if len(d.Notes) > 0 {
		t.Errorf("notes:\n%s", notes(d))
	}
	text, lost := ipvsadm.Format(cfg.Services)
	if diff := cmp.Diff(dump, string(text)); diff != "" || len(lost) > 0 {
		t.Error(diff, lost)
	}
}

// TestExamplesThere checks that Sluice's examples survive an export and import, where IPVS supports
// them.
func TestExamplesThere(t *testing.T) {
	for _, name := range []string{"nat", "tun", "dr"} {
		cfg, _, err := conf.Load("../examples/"+name+".toml", nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := ipvsadm.Format(cfg.Services)
		_, again := parse(t, string(text))
		once, _ := ipvsadm.Format(again.Services)
		if string(once) != string(text) || len(again.Services) < len(cfg.Services) {
			t.Errorf("%s: exported\n%s, then\n%s", name, text, once)
		}
	}
}

// TestForms checks other notations in scripts, and later changes of services.
func TestForms(t *testing.T) {
	_, cfg := parse(t, `
# a script
ipvsadm -C
/sbin/ipvsadm --set 3600 60 120
ipvsadm -At198.51.100.10:80
ipvsadm --add-service --udp-service=198.51.100.10:53 --scheduler rr --persistent
ipvsadm -at 198.51.100.10:80 -r 10.0.0.11 -m  # port of the service
ipvsadm -a -t 198.51.100.10:80 -r 10.0.0.12:80
ipvsadm -e -t 198.51.100.10:80 -r 10.0.0.11:80 -m -w 7
ipvsadm -d -t 198.51.100.10:80 -r 10.0.0.12:80
ipvsadm -E -t 198.51.100.10:80 -s sed
ipvsadm -a -u 198.51.100.10:53 -r 10.0.0.11:53 -i
ipvsadm -A -t 198.51.100.99:80
ipvsadm -D -t 198.51.100.99:80
`)
	text, _ := ipvsadm.Format(cfg.Services)
	want := `-A -t 198.51.100.10:80 -s sed
-a -t 198.51.100.10:80 -r 10.0.0.11:80 -m -w 7
-A -u 198.51.100.10:53 -s rr -p 300
-a -u 198.51.100.10:53 -r 10.0.0.11:53 -i -w 1
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if got := cfg.Services[0].Timeouts; got.TCPEstablished.Seconds() != 3600 || got.TCPFinWait.Seconds() != 60 || got.UDP.Seconds() != 120 {
		t.Errorf("timeouts are %+v", got)
	}
}

// TestNotes checks that everything that is not carried over is listed with its line.
func TestNotes(t *testing.T) {
	d, cfg := parse(t, `-A -f 1 -s wlc
-a -f 1 -r 10.0.0.11:0 -g -w 1
-A --sctp-service 198.51.100.10:80
-A -t 198.51.100.10:80 -s lblcr -M 255.255.255.0 -p 999999
-a -t 198.51.100.10:80 -r 10.0.0.11:8080 -g -x 100 -y 50
-a -t 198.51.100.10:80 -r 10.0.0.12:80 -i --tun-type gue --tun-port 6080 --tun-nocsum
-A -u 198.51.100.10:53 -s sh -b sh-port,sh-fallback -o
-a -u 198.51.100.10:53 -r 10.0.0.11:53 -m
-A -t 198.51.100.12:80
-A -t 198.51.100.13:80 -s fo
-a -t 198.51.100.13:80 -r 10.0.0.11:80 -m -w 10
-a -t 198.51.100.13:80 -r 10.0.0.12:80 -m -w 5
-a -t 198.51.100.13:80 -r [2001:db8::1]:80 -m -w 5
--start-daemon master --mcast-interface eth0
`)
	all := notes(d)
	for _, want := range []string{
		"dump:1: service --fwmark-service 1: Sluice has no firewall marks", "dump:2: backend 10.0.0.11:0: its service",
		"dump:3: service --sctp", "dump:4: -s lblcr: became wlc", "dump:4: -M 255.255.255.0", "dump:4: -p 999999",
		"dump:5: -r 10.0.0.11:8080: port 8080 became the service's, 80",
		"dump:6: --tun-type gue", "dump:7: -b sh-port", "dump:7: -o", "dump:9: service tcp 198.51.100.12:80 is left out",
		"dump:10: -s fo", "dump:13: backend [2001:db8::1]:80 of service", "dump:14: --start-daemon",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no note %q in\n%s", want, all)
		}
	}
	if b := cfg.Services[0].Backends[0]; b.MaxConnections != 100 || b.MinConnections != 50 {
		t.Errorf("thresholds %d and %d, want 100 and 50", b.MaxConnections, b.MinConnections)
	}
	if w := cfg.Services[2].Backends; w[0].Weight != 10 || w[1].Weight != 0 {
		t.Errorf("fo gives weights %+v", w)
	}
}

// TestDPVS checks that the dumps and scripts of DPVS are read: -b of a server, and (null) of older
// versions, is full NAT.
func TestDPVS(t *testing.T) {
	const dump = `-A -t 198.51.100.10:80 -s conhash
-a -t 198.51.100.10:80 -r 10.0.0.11:8080 -b -w 100
-a -t 198.51.100.10:80 -r 10.0.0.12:8080 (null) -w 50
-A -u 198.51.100.10:53 -s rr -b sh-port
-a -u 198.51.100.10:53 -r 10.0.0.11:53 -b -w 1
-A -t 198.51.100.11:80 -s rr
-a -t 198.51.100.11:80 -r 10.0.0.11:80 -m -w 1
-A -H proto=icmp,src-range=[10.0.0.0-10.0.0.9]:0-0,dst-range=,iif=,oif=dpdk0 -s rr
-a -H proto=icmp,src-range=[10.0.0.0-10.0.0.9]:0-0,dst-range=,iif=,oif=dpdk0 -r 198.51.100.200:0 -J -w 100
`
	d, cfg := parse(t, dump+"ipvsadm --add-laddr -z 10.0.0.200 -t 198.51.100.10:80 -F dpdk0\nipvsadm -P -z 10.0.0.201 -t 198.51.100.10:80 -F dpdk0\n")
	var got []string
	for _, s := range cfg.Services {
		got = append(got, fmt.Sprint(s.Key, " ", s.Scheduler, " ", s.Mode, " ", s.Source, " ", len(s.Backends), " ", s.Backends[0].Weight))
	}
	want := []string{"tcp 198.51.100.10:80 mh fullnat [10.0.0.200 10.0.0.201] 2 100", "tcp 198.51.100.11:80 rr nat [] 1 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, notes(d))
	}
	for _, want := range []string{
		"dump:1: -s conhash: became mh",
		"dump:4: service --udp-service 198.51.100.10:53: a dump of DPVS does not have the local addresses of full NAT, which `ipvsadm -G` lists: " +
			"append a line `-P --udp-service 198.51.100.10:53 -z ADDRESS`",
		"dump:8: service --match proto=icmp", "dump:9: backend 198.51.100.200:0: its service",
	} {
		if !strings.Contains(notes(d), want) {
			t.Errorf("no note %q in\n%s", want, notes(d))
		}
	}
	if _, err := ipvsadm.Parse("dump", []byte("-A -t 198.51.100.10:80 (null)")); err == nil {
		t.Error("(null) is accepted after a service")
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "dump: has no service"},
		{"-A -f 1\n-a -f 1 -r 10.0.0.1:0", "dump: has no service"},
		{"\n-A -t www:http -s rr", `dump:2: "www" is not an address; dump with`},
		{"-A -t 192.0.2.1:http", `dump:1: "http" is not a port`},
		{"-A -s rr", "dump:1: names no service"},
		{"-A -t 192.0.2.1:80 -u 192.0.2.1:80", "dump:1: names two services"},
		{"-A -a -t 192.0.2.1:80", "dump:1: has two commands"},
		{"-t 192.0.2.1:80", "dump:1: has no command"},
		{"-A -t", "dump:1: --tcp-service has no value"},
		{"-A -t 192.0.2.1:80 -p 0", "dump:1: -p 0"},
		{"-A -t 192.0.2.1:80 --colour red", "dump:1: --colour is not an option"},
		{"-A -t 192.0.2.1:80 -K", "dump:1: -K is not an option"},
		{"-A -t 192.0.2.1:80 --ops=1", "dump:1: --ops takes no value"},
		{"IP Virtual Server version 1.2.1 (size=4096)\n", "dump:1: this is a list for people, of `ipvsadm -L`; import the output of `ipvsadm -S -n`"},
		{"Prot LocalAddress:Port Scheduler Flags\n", "dump:1: this is a list"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.1:80", "dump:1: service --tcp-service 192.0.2.1:80 was not added"},
		{"-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80", "dump:2: names no server"},
		{"-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -w 65536", "dump:2: -w 65536"},
		{"--set 1 2", "dump:1: --set takes three"},
		{"--set 1 2 x", `dump:1: --set: "x"`},
	} {
		if _, err := ipvsadm.Parse("dump", []byte(c.text)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}

// TestExportNotes checks that what IPVS does not support is noted.
func TestExportNotes(t *testing.T) {
	cfg, _, err := conf.Parse("t.toml", []byte(`
[[port]]
name = "eth0"
[[service]]
name = "range"
address = "192.0.2.1"
port = "8000-8001"
scheduler = "p2c"
backend = [ { address = "10.0.0.1" }, { address = "10.0.0.2", port = 80 } ]
[[service]]
name = "wide"
address = "192.0.2.2"
port = "8000-9000"
backend = [ { address = "10.0.0.1" } ]
[[service]]
name = "full"
address = "192.0.2.3"
port = "any"
scheduler = "random"
source = ["10.0.0.9"]
backend = [ { address = "10.0.0.1", mode = "fullnat" }, { address = "10.0.0.2" } ]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, lost := ipvsadm.Format(cfg.Services)
	want := `-A -t 192.0.2.1:8000 -s twos
-a -t 192.0.2.1:8000 -r 10.0.0.1:8000 -m -w 1
-a -t 192.0.2.1:8000 -r 10.0.0.2:80 -m -w 1
-A -t 192.0.2.1:8001 -s twos
-a -t 192.0.2.1:8001 -r 10.0.0.1:8001 -m -w 1
-a -t 192.0.2.1:8001 -r 10.0.0.2:80 -m -w 1
-A -t 192.0.2.3:0 -s wrr -p 300
-a -t 192.0.2.3:0 -r 10.0.0.2:0 -m -w 1
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	all := strings.Join(lost, "\n")
	for _, part := range []string{`"range": became 2`, `"range": scheduler p2c`, `"wide": is left out`, `"full": scheduler random`, `"full": got a persistence`, `"full": backend 10.0.0.1:0 is left out`} {
		if !strings.Contains(all, part) {
			t.Errorf("nothing says %s:\n%s", part, all)
		}
	}
}

// TestLimits checks that a file of any content is read in a time and a memory that its size bounds.
func TestLimits(t *testing.T) {
	lines := func(first string, n int, format string) []byte {
		b := []byte(first)
		for i := range n {
			b = fmt.Appendf(b, format+"\n", i>>16, i>>8&255, i&255)
		}
		return b
	}
	for _, c := range []struct {
		name, says string
		text       []byte
	}{
		{"services", "65536: the file has more than 65535 services", lines("", 70_000, "-A -t 10.%d.%d.%d:1")},
		{"servers", "262146: the file has more than 65535 services or 262144 backends", lines("-A -t 1.1.1.1:1\n", 263_000, "-a -t 1.1.1.1:1 -r 10.%d.%d.%d:1 -m")},
		{"edits", "too many edits", lines("-A -t 1.1.1.1:1\n", 20_000, "-e -t 1.1.1.1:1 -r 10.%d.%d.%d:1 -m")},
		{"a long word", "...", bytes.Repeat([]byte("x"), 1<<20)},
	} {
		if _, err := ipvsadm.Parse("d", c.text); err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.200v", c.name, err)
		}
	}
}

// FuzzParse checks that no text causes a panic, and that everything accepted is valid.
func FuzzParse(f *testing.F) {
	f.Add(dump)
	f.Add("ipvsadm -At198.51.100.10:80 -p\n-a -t 198.51.100.10:80 -r [::ffff:10.0.0.1]:8 -x1 -b a,b")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ipvsadm.Parse("dump", []byte(text))
		if err != nil {
			return
		}
		if _, _, err := conf.Parse("t.toml", d.TOML(), nil); err != nil {
			t.Errorf("%q became\n%s\n%v", text, d.TOML(), err)
		}
	})
}
