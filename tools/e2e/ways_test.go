package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sluice/tools/netlab"
)

// way is a way of breaking a lab.
type way struct {
	name  string
	modes string                // that it concerns
	only4 bool                  // it does not concern IPv6
	plant []string              // commands, each after the name of its host
	do    func(l *wayLab) error // instead of plant
	check string                // of the doctor's only problem,
	blind string                // and if the service has no checks; "": not tried
	text  string                // in it
	warns bool                  // it is a warning: packets pass
	says  string                // pattern of a marked line of explain; "": none
}

const allModes = "nat fullnat tun dr"

var ways = []way{
	{name: "backend down", modes: allModes, do: func(l *wayLab) error { return l.server.Kill() },
		check: "backends", text: "connection refused", says: "is down"},
	{name: "no route", modes: allModes, plant: []string{"box: ip {6}route del {net} dev eth1"},
		check: "routes", blind: "routes", text: "{backend}", says: "no.route"},
	{name: "no neighbour", modes: allModes, do: (*wayLab).unplug, plant: []string{"box: ip {6}neigh flush dev eth1"},
		check: "neighbours", blind: "neighbours", text: "{backend}", says: "no.neighbour|does not answer"},
	{name: "reverse path filter", modes: "tun dr", only4: true, plant: []string{"box: sysctl -w net.ipv4.conf.eth1.rp_filter=1"},
		check: "rp_filter", text: "port eth1 filters strictly"},
	{name: "no forwarding", modes: "tun dr", plant: []string{"box: sysctl -w {forwarding}=0"},
		check: "forwarding", text: "the kernel does not forward IPv{family}"},
	{name: "address on the box", modes: "tun dr", only4: true, plant: []string{"box: ip addr add {vip}/32 dev lo"},
		check: "replies", text: "it has the address itself, on lo"},
	{name: "MTU", modes: allModes, plant: []string{"box: ip link set eth1 mtu 1400"},
		check: "mtu", text: "path by eth1 has 1400", warns: true, says: "^size"},
	{name: "return path", modes: allModes, plant: []string{"backend: ip {6}route replace default via {elsewhere}"},
		check: "hanging", blind: "hanging", text: "{backend}", says: "^return"},
	{name: "address not on the backend", modes: "tun dr", plant: []string{"backend: ip {6}addr del {vip}/{whole} dev lo"},
		check: "backends", blind: "hanging", text: "{backend}", says: "^return|is down"},
	{name: "no neighbour for the address", modes: "nat", plant: []string{"box: ip {6}addr del {vip}/{whole} dev eth0", "client: ip {6}neigh flush dev eth0"},
		check: "vip", text: "{vip} is in a network of port eth0"},
	{name: "rule for the backend", modes: allModes, plant: []string{"box: ip {6}rule add to {backend} unreachable"},
		check: "rules", text: "packets to backend {backend}"},
	{name: "rule for the replies", modes: "tun dr", plant: []string{"box: ip {6}rule add from {vip} prohibit"},
		check: "replies", text: "a rule of `ip rule`"},
	// from here on the box has a default route, to the client
	{name: "route elsewhere", modes: allModes, plant: []string{"box: ip {6}route add default via {client}", "box: ip {6}route del {net} dev eth1"},
		check: "routes", text: "the route to it leads by eth0 to {client}"},
	{name: "packets at another interface", modes: allModes, plant: []string{"client: sysctl -w {forwarding}=1", "client: ip {6}route add {vip} via {aside}"},
		check: "vip", text: "packets to service web, {vip}, come in at eth2, which is not a port"},
}

// fill puts the lab's values into a text.
func (l *wayLab) fill(text string) string {
	a := l.at()
	six, forwarding, network, elsewhere, whole := "", "net.ipv4.ip_forward", "10.2.0.0/24", "10.2.0.254", "32"
	if l.family == 6 {
		six, forwarding, network, elsewhere, whole = "-6 ", "net.ipv6.conf.all.forwarding", "fd00:2::/64", "fd00:2::fe", "128"
	}
	return strings.NewReplacer("{6}", six, "{forwarding}", forwarding, "{net}", network, "{elsewhere}", elsewhere, "{whole}", whole,
		"{family}", fmt.Sprint(l.family), "{vip}", a.vip, "{backend}", a.backend, "{client}", a.client, "{back}", a.back, "{aside}", a.aside).Replace(text)
}

// unplug and plug take the backend's cable off the switch and put it back.
func (l *wayLab) unplug() error {
	return l.cableMaster(func(port, bridge netlink.Link) error { return netlink.LinkSetNoMaster(port) })
}

func (l *wayLab) plug() error {
	return l.cableMaster(netlink.LinkSetMaster)
}

func (l *wayLab) cableMaster(set func(port, bridge netlink.Link) error) error {
	return l.cable.Do(func() error {
		port, err := netlink.LinkByName("backend")
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("switch")
		if err != nil {
			return err
		}
		return set(port, bridge)
	})
}

// breakIt does what the way says.
func (l *wayLab) breakIt(w *way) {
	l.Helper()
	if w.do != nil {
		must(l.T, w.do(l))
	}
	hosts := map[string]*netlab.Host{"box": l.box, "backend": l.backend, "client": l.client}
	for _, line := range w.plant {
		host, command, _ := strings.Cut(l.fill(line), ": ")
		_, err := l.on(hosts[host], command)
		must(l.T, err)
	}
}

// sentences are the fixes that are no commands.
var sentences = []struct {
	prefix string
	do     func(l *wayLab) error
}{
	{"start the server of web on {backend}, and let it listen at ", func(l *wayLab) error { l.serve(); return nil }},
	{"switch it on, connect it to the network of eth1, and give it the address {backend}", (*wayLab).plug},
}

var otherHost = regexp.MustCompile(`^on (\S+): `)

// follow does what a fix says, word for word: commands, of another host after "on ADDRESS:",
// separated by semicolons and followed by explanations in parentheses; or a sentence.
func (l *wayLab) follow(fix string) error {
	host := l.box
	if m := otherHost.FindStringSubmatch(fix); m != nil {
		if m[1] != l.at().backend {
			return fmt.Errorf("the fix is for %s, not the backend: %q", m[1], fix)
		}
		host, fix = l.backend, fix[len(m[0]):]
	} else if rest, is := strings.CutPrefix(fix, "at the router that sends them: "); is {
		host, fix = l.client, rest
	}
	for _, s := range sentences {
		if strings.HasPrefix(fix, l.fill(s.prefix)) {
			return s.do(l)
		}
	}
	commands, _, _ := strings.Cut(fix, " (")
	for command := range strings.SplitSeq(commands, "; ") {
		if _, err := l.on(host, command); err != nil {
			return err
		}
	}
	return nil
}

// quiet checks that a request succeeds, and that neither doctor nor explain say a word of trouble.
func (l *wayLab) quiet() error {
	if err := errors.Join(l.ask(context.Background(), l.at().vip, 10*time.Second), l.upload()); err != nil {
		return err
	}
	problems, warnings, err := l.troubles(l.box)
	marked, explained := l.explain(l.at().vip)
	if err = errors.Join(err, explained); err == nil && len(problems)+len(warnings)+len(marked) > 0 {
		err = fmt.Errorf("%s: doctor: %+v %+v; explain: %q", l.name(), problems, warnings, marked)
	}
	return err
}

// TestWaysOfBreaking breaks a lab in ten ways and more, in each mode and family that they concern.
// The doctor names exactly the cause, its cure works when it is followed word for word, and with
// nothing broken neither doctor nor explain say a word of trouble.
func TestWaysOfBreaking(t *testing.T) {
	needRoot(t)
	labs := []*wayLab{{mode: "dr", family: 4, blind: true}, {mode: "tun", family: 6, blind: true}}
	for _, family := range []int{4, 6} {
		for mode := range strings.FieldsSeq("dr tun fullnat nat") { // those with most to do first
			labs = append(labs, &wayLab{mode: mode, family: family})
		}
	}
	dir := t.TempDir()
	var running sync.WaitGroup
	starting := make(chan struct{}, 2) // the kernel changes ports one after the other
	for _, l := range labs {
		running.Go(func() { // these tests wait most of the time
			t.Run(l.name(), func(t *testing.T) {
				l.T = t
				l.open(dir, starting)
				stop := l.clients()
				defer stop()
				l.await("nothing is broken", l.quiet)
				t.Run("address of no service", func(t *testing.T) { l.T = t; l.askElsewhere() })
				t.Run("doctor elsewhere", func(t *testing.T) { l.T = t; l.examineElsewhere() })
				for i := range ways {
					w := &ways[i]
					if w.concerns(l) && !t.Run(w.name, func(t *testing.T) { l.T = t; l.try(w) }) {
						break // what is still broken is no cause of the next
					}
				}
				l.T = t
			})
		})
	}
	running.Wait()
}

// concerns reports whether the way breaks a lab.
func (w *way) concerns(l *wayLab) bool {
	return slices.Contains(strings.Fields(w.modes), l.mode) && (!w.only4 || l.family != 6) && (!l.blind || w.blind != "")
}

// examineElsewhere runs the doctor on the client: it finds no problem there, and says that the
// daemon is not.
func (l *wayLab) examineElsewhere() {
	l.Helper()
	problems, warnings, err := l.troubles(l.client)
	must(l.T, err)
	if len(problems) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0].Text, "runs in another network namespace") {
		l.Errorf("%+v %+v", problems, warnings)
	}
}

var servicesAt = regexp.MustCompile(`none at \S+: services are at (\S+)`)

// askElsewhere makes the client ask an address without a service, and then the one that explain
// names.
func (l *wayLab) askElsewhere() {
	l.Helper()
	wrong := netip.MustParseAddr(l.at().vip).Next().String()
	if err := l.ask(context.Background(), wrong, time.Second); err == nil {
		l.Fatalf("%s answers", wrong)
	}
	marked, err := l.explain(wrong)
	must(l.T, err)
	m := servicesAt.FindStringSubmatch(strings.Join(marked, "\n"))
	if m == nil {
		l.Fatalf("explain: %q", marked)
	}
	must(l.T, l.ask(context.Background(), m[1], 10*time.Second))
}

// try breaks the lab, checks that the only problem is the cause, follows its cure, and waits until
// all is quiet.
func (l *wayLab) try(w *way) {
	l.Helper()
	l.breakIt(w)
	check := w.check
	if l.blind {
		check = w.blind
	}
	var cause finding
	l.await(w.name, func() error {
		problems, warnings, err := l.troubles(l.box)
		if err != nil {
			return err
		}
		if w.warns {
			problems, warnings = append(problems, warnings...), nil
		}
		if len(problems) != 1 || problems[0].Check != check || !strings.Contains(problems[0].Text, l.fill(w.text)) {
			return fmt.Errorf("%s: not exactly %s: %s: %+v %+v", l.name(), check, l.fill(w.text), problems, warnings)
		}
		cause = problems[0]
		return nil
	})
	l.Logf("%s -> %s", cause.Text, cause.Fix)
	l.await("explain", func() error {
		marked, err := l.explain(l.at().vip)
		says := func(line string) bool { return regexp.MustCompile(w.says).MatchString(line) }
		if err == nil && w.says != "" && !slices.ContainsFunc(marked, says) {
			err = fmt.Errorf("nothing marked is like %q: %q", w.says, marked)
		}
		return err
	})
	must(l.T, l.follow(cause.Fix))
	l.await("cured", l.quiet)
}
