package keepalived_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/conf/keepalived"
	"sluice/pipeline/service"
)

// files is the file system.
type files struct{}

func (files) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }
func (files) Read(path string) ([]byte, error)      { return os.ReadFile(path) }

func notes(d *draft.Draft) string {
	var b strings.Builder
	for _, n := range d.Notes {
		b.WriteString(n.String() + "\n")
	}
	return b.String()
}

// valid parses a draft: it must be valid, without warnings except for weights with a scheduler that
// ignores them. Those are carried over unchanged, because they had no effect in the kernel either.
func valid(d *draft.Draft) (*conf.Config, error) {
	cfg, warnings, err := conf.Parse("t.toml", d.TOML(), nil)
	for _, w := range warnings {
		if !strings.Contains(w.Text, "treats all weights above 0 alike") {
			err = errors.Join(err, w)
		}
	}
	return cfg, err
}

// parse imports a text, which must give a valid configuration.
func parse(t *testing.T, text string) (*draft.Draft, *conf.Config) {
	t.Helper()
	d, err := keepalived.Parse("k", []byte(text), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, notes(d))
	}
	cfg, err := valid(d)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.TOML())
	}
	return d, cfg
}

// TestRealFile imports the file of a site with thirty virtual servers, groups, both families and
// all methods.
func TestRealFile(t *testing.T) {
	path := "testdata/keepalived.conf"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := keepalived.Parse(path, data, files{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := valid(d)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.TOML())
	}
	var modes []string
	for _, s := range cfg.Services {
		for _, b := range s.Backends {
			family := 4
			if s.Key.Address.Is6() {
				family = 6
			}
			modes = append(modes, fmt.Sprintf("%s%d", b.Mode, family))
		}
	}
	slices.Sort(modes)
	if want := []string{"dr4", "dr6", "nat4", "nat6", "tun4", "tun6"}; !slices.Equal(slices.Compact(modes), want) || len(cfg.Services) < 30 {
		t.Errorf("%d services in modes %v", len(cfg.Services), slices.Compact(modes))
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/notes.txt", []byte(notes(d)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/notes.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), notes(d)); diff != "" {
		t.Errorf("notes (UPDATE=1 writes them again):\n%s", diff)
	}
	everyLine(t, string(data), d)
}

// everyLine checks that each directive of the file is in a service or a note: without it, one of
// both changes.
func everyLine(t *testing.T, text string, whole *draft.Draft) {
	t.Helper()
	covered := func(line int) bool { // by the note of a block that ends later
		return slices.ContainsFunc(whole.Notes, func(n draft.Note) bool {
			last := n.Line
			if _, rest, ok := strings.Cut(n.Text, "{ to line "); ok {
				fmt.Sscan(rest, &last)
			}
			return n.File == "testdata/keepalived.conf" && n.Line <= line && line <= last
		})
	}
	lines := strings.Split(text, "\n")
	body := func(d *draft.Draft) string { return notes(d) + string(conf.Format(d.Config(), nil)) }
	seen := map[string]bool{} // one of each will do
	for i, line := range lines {
		words := strings.Fields(line)
		if seen[line] {
			continue
		}
		seen[line] = true
		if len(words) == 0 || strings.ContainsAny(words[0], "#!}$@") || strings.HasSuffix(line, `\`) || strings.HasSuffix(line, "{") || strings.HasPrefix(words[0], "{") || covered(i+1) {
			continue
		}
		without := slices.Clone(lines)
		without[i] = ""
		d, err := keepalived.Parse("testdata/keepalived.conf", []byte(strings.Join(without, "\n")), files{})
		if err == nil && body(d) == body(whole) && !slices.Contains(asDefault, strings.Join(words, " ")) {
			t.Errorf("line %d is lost without a note: %s", i+1, line)
		}
	}
}

// asDefault are directives of the file that set what is the default.
var asDefault = []string{
	"protocol TCP", "lb_kind NAT", "lvs_method NAT", "lvs_sched wlc", "lb_algo wlc", "weight 1", "connect_timeout 5", "enable_sni",
	"mh-fallback", "type A", "virtualhost api.example.com",
	// Of further servers.
	"TCP_CHECK", "connect_timeout 2", "payload 70696e67", "require_reply 706f6e67", "name health.example.com", "retry 2",
	"connect_timeout 10", "weight 50", // of the second server of fo
}

// serverText returns a virtual server with the lines, and a backend with those of a check.
func serverText(lines, backend string) string {
	return "virtual_server 192.0.2.1 80 {\n" + lines + "\nreal_server 10.0.0.1 80 {\n" + backend + "\n}\n}\n"
}

// TestServers checks what directives become.
func TestServers(t *testing.T) {
	base := func() conf.Service {
		_, cfg := parse(t, serverText("", ""))
		return cfg.Services[0]
	}
	for _, c := range []struct {
		lines, backend string
		change         func(*conf.Service)
	}{
		{"", "", func(*conf.Service) {}},
		{"lb_algo rr\nlb_kind DR", "", func(s *conf.Service) { s.Scheduler, s.Mode, s.Backends[0].Mode = "rr", service.DR, service.DR }},
		{"lvs_sched sed\nlvs_method TUN type ipip", "lvs_method NAT", func(s *conf.Service) { s.Scheduler, s.Mode = "sed", service.TUN }},
		{"persistence_timeout 90", "weight 7", func(s *conf.Service) { s.Persistence, s.Backends[0].Weight = 90*time.Second, 7 }},
		{"", "uthreshold 100\nlthreshold 60", func(s *conf.Service) { s.Backends[0].MaxConnections, s.Backends[0].MinConnections = 100, 60 }},
		{"", "lthreshold 60", func(*conf.Service) {}},
		{"persistence_timeout", "weight 0", func(s *conf.Service) { s.Persistence, s.Backends[0].Weight = 6*time.Minute, 0 }},
		{"inhibit_on_failure\nsorry_server 10.0.0.99 81\nsorry_server_lvs_method TUN", "inhibit_on_failure\nPING_CHECK", func(s *conf.Service) {
			s.OnDown = "keep"
			s.Sorry = &conf.Backend{Key: service.BackendKey{Address: netip.MustParseAddr("10.0.0.99"), Port: 80}, Weight: 1, Mode: service.TUN}
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall, h.MinHealthy = "ping", 30500*time.Millisecond, 5*time.Second, 1, 2, 0
		}},
		{"snmp_name shop", "", func(s *conf.Service) { s.Name = "shop" }},
		{"delay_loop 7", "TCP_CHECK { connect_timeout 3.5\nretry 2 }", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "tcp", 3500*time.Millisecond, 3500*time.Millisecond, 1, 3
		}},
		{"delay_loop 7\nretry 4", "delay_loop 8\nTCP_CHECK { delay_loop 9\nconnect_port 81 }", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall, h.Port = "tcp", 5*time.Second, 5*time.Second, 1, 5, 81
		}},
		{"virtualhost a.example", "HTTP_GET {\nurl {\npath \"/a?b=c\"\nstatus_code 200-204 301\n}\n}", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "http", 31500*time.Millisecond, 5*time.Second, 1, 2
			h.Path, h.Host, h.ExpectStatus = "/a?b=c", "a.example", []int{200, 201, 202, 203, 204, 301}
		}},
		{"virtualhost a.example", "virtualhost b.example\nSSL_GET {\nurl {\nvirtualhost c.example\nregex fine\nstatus_code 200-399\n}\n}", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "https", 31500*time.Millisecond, 5*time.Second, 1, 2
			h.Host, h.ExpectBody = "c.example", "fine"
		}},
		{"", "DNS_CHECK {\nname a.example\n}", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall, h.Query = "dns", time.Minute, 5*time.Second, 1, 4, "a.example"
		}},
		{"protocol UDP", "UDP_CHECK {\npayload 41 4 20\nrequire_reply 61 6X\n}", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall, h.Send, h.Expect = "udp", 30500*time.Millisecond, 5*time.Second, 1, 2, "A\x04 ", "a"
		}},
		{"", "PING_CHECK\n{\n}", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "ping", 30500*time.Millisecond, 5*time.Second, 1, 2
		}},
		{"protocol TCP", "", func(s *conf.Service) { s.Key.Protocol, s.Name = service.TCP, "tcp-192.0.2.1-80" }},
		{"protocol icmp", "", func(*conf.Service) {}},
		{"persistence_timeout 0", "", func(*conf.Service) {}},
		{"persistence_granularity 255.255.255.255", "", func(s *conf.Service) { s.Persistence = 6 * time.Minute }},
		{"delay_loop 60", "TCP_CHECK { retry 3\ndelay_before_retry 4 }", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "tcp", 18*time.Second, 5*time.Second, 1, 4
		}},
		{"delay_before_retry 60", "TCP_CHECK", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "tcp", time.Minute, 5*time.Second, 1, 2
		}},
		{"delay_loop 8\ndelay_before_retry 9", "delay_before_retry 1\nTCP_CHECK { nb_sock_retry 0 }", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "tcp", 8*time.Second, 5*time.Second, 1, 1
		}},
		{"", "MISC_CHECK { misc_path x }\nDNS_CHECK", func(s *conf.Service) {
			h := &s.Health
			h.Type, h.Interval, h.Timeout, h.Rise, h.Fall = "dns", time.Minute, 5*time.Second, 1, 4
		}},
	} {
		_, cfg := parse(t, serverText(c.lines, c.backend))
		want := base()
		c.change(&want)
		want.Line, want.Backends[0].Line = 0, 0
		got := cfg.Services[0]
		got.Line, got.Backends[0].Line = 0, 0
		if got.Sorry != nil {
			got.Sorry.Line = 0
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%q, %q:\n%s", c.lines, c.backend, diff)
		}
	}
}

// TestSyntax checks the same server in all notations of the file.
func TestSyntax(t *testing.T) {
	_, want := parse(t, "virtual_server 192.0.2.1 80 {\nlvs_sched rr\nreal_server 10.0.0.1 80 {\nweight 5\n}\n}\n")
	for _, text := range []string{
		"virtual_server 192.0.2.1 80 { lvs_sched rr\n real_server 10.0.0.1 80 { weight 5 } }",
		"virtual_server 192.0.2.1 80\n{\n\tlvs_sched \"rr\" ! comment { \n real_server 10.0.0.1 80 # {\r\n{\n weight '5'\n}}",
		"$VIP=192.0.2.1\n$PORT = 81\n$PORT=80\nvirtual_server $VIP ${PORT} {\nlvs_sched rr\nreal_server 10.0.0.1 $PORT {\nweight 5\n}\n}",
		"$A=${B}.1\n$B=192.0.2\n$RS= \\\n real_server 10.0.0.${N} 80 { \\\n  weight 5 \\\n }\nvirtual_server ${A} 80 {\n$N=1\nlvs_sched rr\n$RS\n}",
		"virtual_server 192.0.2.1 80 {\nlvs_sched \\x72\\162\nreal_server 10.0.0.\"1\" 80 {\nweight 5\n}\n}",
		"$VS= \\\nvirtual_server 192.0.2.${N} 80 { \\\n$S=rr \\\nlvs_sched $S \\\nreal_server 10.0.0.${N} 80 { weight 5 } \\\n}\n$N=1\n$VS",
	} {
		_, cfg := parse(t, text)
		a, b := conf.Format(want, nil), conf.Format(cfg, nil)
		if diff := cmp.Diff(string(a), string(b)); diff != "" {
			t.Errorf("%s\n%s", text, diff)
		}
	}
}

func TestGroups(t *testing.T) {
	rest := "\nvirtual_server group g {\nlvs_method TUN\nreal_server 10.0.0.1 80 { }\n}\n"
	for _, c := range []struct{ entries, want string }{
		{"192.0.2.1 80", "g 192.0.2.1 80"},
		{"192.0.2.9-11 80", "g-192.0.2.9-80 192.0.2.9 80, g-192.0.2.10-80 192.0.2.10 80, g-192.0.2.11-80 192.0.2.11 80"},
		{"192.0.2.255-192.0.3.0 80", "g-192.0.2.255-80 192.0.2.255 80, g-192.0.3.0-80 192.0.3.0 80"},
		{"192.0.2.6/31 80", "g-192.0.2.6-80 192.0.2.6 80, g-192.0.2.7-80 192.0.2.7 80"},
		{"2001:db8::9-a 80", "g-2001:db8::9-80 2001:db8::9 80, g-2001:db8::a-80 2001:db8::a 80"},
		{"2001:db8::1 0", "g 2001:db8::1 any"},
		{"fwmark 3\n192.0.2.1 80", "g 192.0.2.1 80"},
	} {
		_, cfg := parse(t, "virtual_server_group g {\n"+c.entries+"\n}"+rest)
		var got []string
		for _, s := range cfg.Services {
			got = append(got, fmt.Sprint(s.Name, " ", s.Key.Address, " ", s.Key.Ports))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %s, want %s", c.entries, strings.Join(got, ", "), c.want)
		}
	}
	_, cfg := parse(t, "virtual_server_group g {\n192.0.2.1 80\n}"+rest+strings.Replace(rest, "lvs_method", "protocol TCP\nlvs_method", 1))
	if len(cfg.Services) != 2 || cfg.Services[1].Name != "g-tcp" {
		t.Errorf("a group of two servers gives %+v", cfg.Services)
	}
}

func TestNotes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"@lb1 virtual_server 192.0.2.9 80 {\nlvs_sched rr\n}\n", "k:1: virtual_server 192.0.2.9 80 { to line 3 }: applies only to machines @lb1, and was skipped"},
		{"~SEQ(N, 1, 3) real_server 10.0.0.${N} 80\n", "k:1: ~SEQ: sequences"},
		{"include other.conf\n", "k:1: include other.conf"},
		{"colour blue\n", "k:1: colour blue: is not part of a virtual server"},
		{"SSL {\nca x\n}\n", "k:1: SSL { to line 3 }"},
		{"virtual_server_group g {\n10.0.0.0/8 80\n192.0.2.1 http\nx 1\n}\n", "k:2: 10.0.0.0/8 80: is a range of more than"},
		{"virtual_server_group g {\n192.0.2.9-1 80\n}\n", "k:2: 192.0.2.9-1 80: is a range of more than 1024 addresses, or is descending"},
		{"virtual_server_group g {\n192.0.2.9 80\n}\n", "k:1: virtual_server_group g { to line 3 }: no virtual server uses"},
		{"virtual_server 192.0.2.7 80 {\n}\n", "k:1: service udp 192.0.2.7:80 is left out: it has no backend"},
		{"virtual_server group none {\n}\n", "k:1: virtual_server group none { to line 2 }: the group does not exist"},
		{"virtual_server web http {\n}\n", "must be an address and a port"},
		{"virtual_server 192.0.2.7 80 {\nreal_server web 80 { }\n}\n", "k:2: real_server web 80 { to line 2 }: must be an address and a port"},
		{"virtual_server 192.0.2.1 80 {\nreal_server 10.0.0.9 80 { }\n}\n", "k:4: service udp 192.0.2.1:80 is left out: udp 192.0.2.1:80 is already the service"},
		{serverTextAt(7, "delay_loop soon", ""), "k:2: delay_loop soon: is not a number of seconds"},
		{serverTextAt(7, "delay_loop 3", "TCP_CHECK { }"), "k:4: TCP_CHECK: interval = 5s and fall = 2: a server that refuses is down after 10s, in keepalived 4s, " +
			"one that does not answer after 15s, in keepalived 14s (delay_loop 3s, retry 1, delay_before_retry 1s)"},
		{serverTextAt(7, "protocol UDP", "MISC_CHECK {\nmisc_path x\n}"), "k:4: MISC_CHECK { to line 6 }: Sluice runs no programs for checks and has no BFD: there is no check"},
		{serverTextAt(7, "", ""), "k:1: virtual_server 192.0.2.7 80: has no protocol: it is udp, as in keepalived"},
		{serverTextAt(7, "protocol icmp", ""), "k:2: protocol icmp: must be one of TCP, UDP; keepalived ignores it, and so it is udp"},
		{serverTextAt(7, "protocol TCP\ndelay_loop 6", "TCP_CHECK { connect_timeout 3 }"), "k:5: TCP_CHECK: interval = 3.5s and fall = 2: " +
			"a server that refuses is down after 7s, as in keepalived, one that does not answer after 10s, in keepalived 13s (delay_loop 6s, retry 1, delay_before_retry 1s)"},
		{serverTextAt(7, "protocol TCP\ndelay_loop 6", "TCP_CHECK { }"), "k:5: TCP_CHECK: interval = 5s and fall = 2: " +
			"a server that refuses is down after 10s, in keepalived 7s, one that does not answer after 15s, in keepalived 17s (delay_loop 6s, retry 1, delay_before_retry 1s)"},
		{serverTextAt(7, "protocol TCP", "MISC_CHECK {\nmisc_path x\n}\nHTTP_GET { }"), "k:4: MISC_CHECK { to line 6 }: Sluice runs no programs " +
			"for checks and has no BFD: what remains is the HTTP_GET at line 7"},
		{serverTextAt(7, "protocol TCP", "HTTP_GET { }\nMISC_CHECK {\nmisc_path x\n}"), "k:5: MISC_CHECK { to line 7 }: Sluice runs no programs " +
			"for checks and has no BFD: what remains is the HTTP_GET at line 4"},
		{strings.Replace(serverTextAt(7, "", ""), " 80 {", " 0 {", 1), "k:1: virtual_server 192.0.2.7 0: a service of any port has persistence in keepalived: persistence = 6m0s"},
		{serverTextAt(7, "lb_kind FNAT", ""), "k:1: virtual_server 192.0.2.7 80: FNAT has no laddr_group_name"},
		{serverTextAt(7, "lb_kind FNAT\nladdr_group_name x", ""), "k:3: laddr_group_name x: the local_address_group does not exist"},
		{serverTextAt(7, "laddr_group_name x", ""), "k:2: laddr_group_name x: only mode fullnat (FNAT) sends from local addresses"},
		{"local_address_group g {\n10.0.0.5 dpdk0\n}\n", "k:1: local_address_group g { to line 3 }: no virtual server uses"},
		{serverTextAt(7, "lb_kind FNAT\nsyn_proxy", ""), "k:3: syn_proxy: Sluice does not answer"},
		{serverTextAt(7, "", "TCP_CHECK { }\nPING_CHECK { }"), "k:5: PING_CHECK { to line 5 }: Sluice has one check per service: the TCP_CHECK at line 4"},
		{serverTextAt(7, "real_server 10.0.0.2 80 {\ninhibit_on_failure\n}", ""), "k:3: inhibit_on_failure: now applies to all backends"},
		{serverTextAt(7, "", "HTTP_GET {\nurl {\nregex \"a.*b\"\npath x\nstatus_code 1000\n}\n}"), "k:6: regex a.*b: Sluice searches the answer for a text"},
	} {
		d, _ := parse(t, c.text+serverText("", ""))
		if !strings.Contains(notes(d), c.want) {
			t.Errorf("%q: no note %q in\n%s", c.text, c.want, notes(d))
		}
	}
}

// TestFullNAT checks that FNAT of DPVS, with its local addresses, becomes mode fullnat with source.
func TestFullNAT(t *testing.T) {
	group := "local_address_group g {\n10.0.0.200 dpdk0\n10.0.0.201-202\n2001:db8::9\n}\n"
	d, cfg := parse(t, group+serverText("protocol TCP\nlb_kind FNAT\nladdr_group_name g", "")+
		strings.Replace(serverTextAt(2, "lb_kind FNAT\nladdr_group_name g", ""), "10.0.0.1", "10.0.0.2", 1))
	for _, s := range cfg.Services {
		if fmt.Sprint(s.Source) != "[10.0.0.200 10.0.0.201 10.0.0.202]" || s.Mode != service.FullNAT || s.Backends[0].Mode != service.FullNAT {
			t.Errorf("%s: mode %s, source %v\n%s", s.Name, s.Mode, s.Source, notes(d))
		}
	}
	_, cfg = parse(t, group+strings.ReplaceAll(strings.ReplaceAll(serverText("lb_kind FNAT\nladdr_group_name g", ""), "192.0.2.1", "2001:db8:f::1"), "10.0.0.1", "2001:db8::1"))
	if s := cfg.Services[0]; fmt.Sprint(s.Source) != "[2001:db8::9]" {
		t.Errorf("IPv6: source %v", s.Source)
	}
}

// TestSorryServerThatIsABackend checks that without the sorry server, which Sluice refuses, the
// backends are protected again: they serve although their checks fail.
func TestSorryServerThatIsABackend(t *testing.T) {
	d, cfg := parse(t, serverText("protocol TCP\nsorry_server 10.0.0.1 80", "TCP_CHECK"))
	if s := cfg.Services[0]; s.Sorry != nil || s.Health.MinHealthy != conf.NewService().Health.MinHealthy {
		t.Errorf("sorry server %v, min_healthy %d\n%s", s.Sorry, s.Health.MinHealthy, notes(d))
	}
	if !strings.Contains(notes(d), "sorry server 10.0.0.1:80 of service tcp 192.0.2.1:80 is left out") {
		t.Error(notes(d))
	}
}

// serverTextAt is serverText for another address.
func serverTextAt(n int, lines, backend string) string {
	return strings.Replace(serverText(lines, backend), "192.0.2.1", fmt.Sprint("192.0.2.", n), 1)
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "k: has no service"},
		{"virtual_server 192.0.2.1 80 {\nreal_server 10.0.0.1 80 {\n}\n", "k:1: virtual_server 192.0.2.1 80 has no closing }"},
		{"\n}\n", "k:2: } without a {"},
		{"{\n}\n", "k:1: { without a directive"},
		{"a {\n} {\n}", "k:2: { without a directive"},
		{"global_defs {\nrouter_id \"x\n}", "k:2: a quote is not closed"},
		{"$A=$A\nx $A", "k:2: $A expands to too much"},
		{"$A= \\\n$B\n$B= \\\n$A\n\nx $A", "k:6: $B expands to too much"},
		{"$A=" + strings.Repeat("x", 1<<20) + "\n" + strings.Repeat("y $A\n", 20), "k:16: the file, with its includes and definitions, has more than 16 MiB"},
		{strings.Repeat("a {\n", 40), "k:33: blocks are nested more than 32 deep"},
	} {
		if _, err := keepalived.Parse("k", []byte(c.text), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200q: %v, want %s", c.text, err, c.want)
		}
	}
}

// TestIncludes checks that includes are relative to the including file, may have wildcards, and
// that a loop ends.
func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sub/a.conf", "virtual_server 192.0.2.1 80 {\ninclude backends\n}\n")
	write("sub/b.conf", serverTextAt(2, "colour blue", ""))
	write("sub/backends", "real_server 10.0.0.1 80 {\nweight x\n}\n")
	main := filepath.Join(dir, "k.conf")
	d, err := keepalived.Parse(main, []byte("include sub/*.conf\nincludea none*\n"), files{})
	if err != nil || len(d.Services) != 2 {
		t.Fatal(err, notes(d))
	}
	for _, want := range []string{dir + "/sub/backends:2: weight x: is not a number", dir + "/sub/b.conf:2: colour blue", main + ":2: include " + dir + "/none*: no such file"} {
		if !strings.Contains(notes(d), want) {
			t.Errorf("no note %q in\n%s", want, notes(d))
		}
	}
	write("loop.conf", "include loop.conf\n")
	if _, err := keepalived.Parse(main, []byte("include loop.conf\n"), files{}); err == nil || !strings.Contains(err.Error(), "loop.conf:1: files are included more than") {
		t.Error(err)
	}
}

// TestLimits checks that a file of any content is read in a time and a memory that its size bounds.
func TestLimits(t *testing.T) {
	group := "virtual_server_group g {\n" + strings.Repeat("10.0.0.0/22 80\n", 10) + "}\n"
	for _, c := range []struct{ name, says, text string }{
		{"directives", "more than 1000000 directives", strings.Repeat("x\n", 1_000_001)},
		{"addresses", "has more than 65535 services", group + strings.Repeat("virtual_server group g {\nreal_server 1.1.1.1 80 {\n}\n}\n", 100)},
		{"groups", "no service", strings.Replace(group, "10.0.0.0/22 80", strings.Repeat("10.0.0.0/22 80\n", 20_000), 1)},
	} {
		if _, err := keepalived.Parse("k", []byte(c.text), nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %.200v", c.name, err)
		}
	}
}

// FuzzParse checks that no text causes a panic or an endless loop, and that everything accepted is
// valid.
func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/keepalived.conf")
	if err != nil {
		f.Fatal(err)
	}
	for part := range strings.SplitSeq(string(data), "\n\n") {
		f.Add(part + "\n")
	}
	f.Add("$A= \\\n$A $A\nx $A\nvirtual_server_group g {\n192.0.2.1-9\n::1/127 0\n}\nvirtual_server group g { real_server ::2 { DNS_CHECK { name a..b } } }")
	f.Add(serverText("virtualhost a..b", "HTTP_GET { url { path \"\\x00\"\nstatus_code 100-599 } }"))
	f.Add(serverText("protocol udp", "UDP_CHECK { payload ff\nrequire_reply X\nconnect_port 99999 }"))
	f.Fuzz(func(t *testing.T, text string) {
		d, err := keepalived.Parse("k", []byte(text), nil)
		if err != nil {
			return
		}
		if _, err := valid(d); err != nil {
			t.Errorf("%q became\n%s\n%v", text, d.TOML(), err)
		}
	})
}
