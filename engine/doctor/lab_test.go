package doctor

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	"sluice/tools/netlab"
)

const labConfig = `
[[port]]
name = "eth0"
[[port]]
name = "eth1"
[[service]]
name = "direct"
address = "198.51.100.40"
port = 80
mode = "dr"
[[service.backend]]
address = "10.2.0.13"
`

// lab is a box that is the router of a dr backend, between it and a client.
type lab struct {
	t            *testing.T
	box, backend *netlab.Host
	reply        net.Conn // from the service's address to the client
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	net, err := netlab.New("doctor")
	check(t, err)
	t.Cleanup(func() { check(t, net.Close()) })
	host := func(name string) *netlab.Host {
		h, err := net.Host(name)
		check(t, err)
		return h
	}
	l := &lab{t: t, box: host("box"), backend: host("backend")}
	client := host("client")
	check(t, net.Link(client, "eth0", l.box, "eth0", netlab.LinkOptions{}))
	check(t, net.Link(l.backend, "eth0", l.box, "eth1", netlab.LinkOptions{}))
	check(t, client.Addr("eth0", "192.0.2.7/24"))
	check(t, l.box.Addr("eth0", "192.0.2.1/24"))
	check(t, l.box.Addr("eth1", "10.2.0.1/24"))
	check(t, l.backend.Addr("eth0", "10.2.0.13/24"))
	check(t, l.backend.AddLo("198.51.100.40"))
	check(t, l.backend.Route("0.0.0.0/0", "10.2.0.1"))
	for key, value := range map[string]string{"ip_forward": "1", "conf.all.rp_filter": "0", "conf.eth0.rp_filter": "0", "conf.eth1.rp_filter": "0"} {
		check(t, l.box.Sysctl("net.ipv4."+key, value))
	}
	l.reply, err = l.backend.DialFrom(context.Background(), "udp", "198.51.100.40:80", "192.0.2.7:4000")
	check(t, err)
	t.Cleanup(func() { l.reply.Close() })
	return l
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command on the box.
func (l *lab) run(command string) {
	l.t.Helper()
	cmd := exec.Command("sh", "-c", command)
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	p, err := l.box.Start(cmd)
	check(l.t, err)
	if err := p.Wait(); err != nil {
		l.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// problems examines the box while replies come in, and returns the problems of a check.
func (l *lab) problems(name string, replies int) (all []Finding) {
	l.t.Helper()
	check(l.t, l.box.Do(func() error {
		b, err := Collect()
		if err != nil {
			return err
		}
		if b.Config, _, err = conf.Parse("lab.toml", []byte(labConfig), nil); err != nil {
			return err
		}
		b.Before.Kernel = b.KernelCounters()
		end := make(chan struct{})
		go func() {
			defer close(end)
			for range replies {
				_, _ = l.reply.Write([]byte("reply"))
				time.Sleep(10 * time.Millisecond)
			}
		}()
		b.Listen(time.Second)
		<-end
		b.Now.Kernel = b.KernelCounters()
		for _, f := range Run(b) {
			if f.Severity == Problem && (name == "" || f.Check == name) {
				all = append(all, f)
			}
		}
		return nil
	}))
	return all
}

// faultsOfReplies are ways in which a box loses the replies of dr that pass it.
var faultsOfReplies = []struct{ check, text, plant string }{
	{"forwarding", "the kernel does not forward IPv4", "sysctl -w net.ipv4.ip_forward=0"},
	{"rp_filter", "port eth1 filters strictly", "sysctl -w net.ipv4.conf.eth1.rp_filter=1"},
	{"rp_filter", "port eth1 filters loosely", "sysctl -w net.ipv4.conf.all.rp_filter=2"},
	{"replies", "it has the address itself, on lo", "ip addr add 198.51.100.40/32 dev lo"},
	{"replies", "a rule of `ip rule`", "ip rule add from 198.51.100.40 prohibit"},
	{"replies", "a rule of `ip rule`", "ip rule add to 192.0.2.0/24 blackhole"},
	{"rules", "packets to backend 10.2.0.13", "ip rule add to 10.2.0.13 unreachable"},
}

// TestRepliesPassing checks with a kernel that each fault is the only problem, that it is named,
// that its cure, followed word for word, ends it at once, and that nothing is a problem without it.
func TestRepliesPassing(t *testing.T) {
	l := newLab(t)
	if all := l.problems("", 90); len(all) > 0 {
		t.Fatalf("with nothing broken: %+v", all)
	}
	for _, c := range faultsOfReplies {
		l.run(c.plant)
		all := l.problems("", 90)
		if len(all) == 0 || all[0].Check != c.check || !strings.Contains(all[0].Text, c.text) {
			t.Fatalf("%s: %+v, want %s: %s", c.plant, all, c.check, c.text)
		}
		for _, f := range all {
			cure, _, _ := strings.Cut(f.Fix, " (")
			l.run(cure)
		}
		if all := l.problems("", 90); len(all) > 0 {
			t.Fatalf("%s, cured: %+v", c.plant, all)
		}
	}
	l.run("sysctl -w net.ipv4.conf.eth1.rp_filter=1 net.ipv4.ip_forward=0")
	if all := l.problems("", 0); len(all) > 0 {
		t.Errorf("without traffic there is no evidence: %+v", all)
	}
}
