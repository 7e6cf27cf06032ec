package keepalived

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// Parse reads a file. name stands for it in messages, and its directory is where included files are
// looked for. The error says what is wrong with which line; what Sluice lacks is no error but a
// note of the Draft, which is settled.
func Parse(name string, data []byte, files Files) (*draft.Draft, error) {
	d := &draft.Draft{Origin: "keepalived's " + name}
	s := &source{files: files, draft: d, tree: newBuilder(), vars: map[string]string{}}
	if err := s.read(name, data); err != nil {
		return d, err
	}
	nodes, err := s.tree.end()
	if err != nil {
		return d, err
	}
	r := &reader{Draft: d, groups: map[string]*group{}, timeouts: conf.DefaultTimeouts()}
	r.top(nodes)
	if err := d.Settle(); err != nil {
		return d, &draft.Error{Place: draft.Place{File: name}, Text: err.Error()}
	}
	return d, nil
}

// reader turns directives into services. Its methods note what they can't carry over.
type reader struct {
	*draft.Draft
	groups   map[string]*group
	timeouts conf.Timeouts
}

// Why whole blocks stay behind. Those of VRRP have their own sentence.
const stays = "Sluice does no VRRP: keepalived can go on running for it, without the virtual servers"

var blocks = map[string]string{
	"vrrp_instance": stays, "vrrp_sync_group": stays, "vrrp_script": stays, "vrrp_track_process": stays, "vrrp_track_file": stays,
	"track_file": stays, "garp_group": stays, "bfd_instance": stays, "static_ipaddress": stays, "static_addresses": stays, "static_routes": stays,
	"static_rules": stays, "track_group": stays, "static_track_group": stays, "linkbeat_interfaces": stays,
	"interface_up_down_delays": stays, "linkbeat_use_polling": stays,
	"SSL": "checks of Sluice show no certificate, and look at none",
}

// top reads the directives outside of all blocks: what others refer to first.
func (r *reader) top(nodes []*node) {
	for _, n := range nodes {
		switch {
		case n.condition != "":
			r.conditional(n)
		case n.name() == "virtual_server_group":
			r.group(n)
		case n.name() == "global_defs":
			r.global(n)
		}
	}
	for _, n := range nodes {
		switch why, known := blocks[n.name()]; {
		case n.condition != "", n.name() == "virtual_server_group", n.name() == "global_defs":
		case n.name() == "virtual_server":
			r.server(n)
		case known:
			r.lost(n, why)
		default:
			r.lost(n, "belongs to no virtual server")
		}
	}
	for _, n := range nodes {
		if g := r.groups[n.value()]; g != nil && g.node == n && !g.used {
			r.lost(n, "no virtual server uses the group")
		}
	}
}

// lost notes that a directive is not carried over, with its block.
func (r *reader) lost(n *node, why string) {
	if n.hasBlock {
		r.Note(n.at, "%s { to line %d }: %s", n.text(), n.last.Line, why)
		return
	}
	r.Note(n.at, "%s: %s", n.text(), why)
}

func (r *reader) conditional(n *node) {
	r.lost(n, "holds on machines "+n.condition+" only, and so was passed over")
}

// each calls do for the directives of a block that hold everywhere.
func (r *reader) each(n *node, do func(*node)) {
	for _, child := range n.block {
		if child.condition != "" {
			r.conditional(child)
			continue
		}
		do(child)
	}
}

// global reads global_defs.
func (r *reader) global(n *node) {
	r.each(n, func(n *node) {
		if n.name() != "lvs_timeouts" {
			r.lost(n, "is a setting of keepalived itself")
			return
		}
		for i := 1; i+1 < len(n.words); i += 2 {
			field := map[string]*time.Duration{"tcp": &r.timeouts.TCPEstablished, "tcpfin": &r.timeouts.TCPFinWait, "udp": &r.timeouts.UDP}[n.words[i]]
			seconds, err := strconv.Atoi(n.words[i+1])
			if field == nil || err != nil || seconds < 1 {
				r.lost(n, "is no timeout of Sluice")
				continue
			}
			*field = draft.Clip(r.Draft, n.at, "lvs_timeouts "+n.words[i], seconds, 24*time.Hour)
		}
	})
}

// server is a virtual server that is being read.
type server struct {
	*reader
	node     *node
	service  draft.Service // what all its addresses have in common
	fronts   []front
	failover bool // scheduler fo
	checks   checkDefaults
	health   *check // of the first real server that has one

	sorryMethod *node   // sorry_server_lvs_method
	inhibited   []*node // inhibit_on_failure of real servers
}

// server reads a virtual_server and adds its services, one for each address.
func (r *reader) server(n *node) {
	v := &server{reader: r, node: n, service: draft.Service{Service: conf.NewService(), From: n.at}, checks: newCheckDefaults()}
	v.service.Timeouts = r.timeouts
	v.service.Key.Protocol = service.TCP
	if why := v.findFronts(); why != "" {
		r.lost(n, why)
		return
	}
	var servers []*node
	var sorry *node
	r.each(n, func(n *node) {
		switch n.name() {
		case "real_server":
			servers = append(servers, n)
		case "sorry_server":
			sorry = n
		default:
			v.directive(n)
		}
	})
	if v.service.Key.Protocol == 0 {
		r.lost(n, "Sluice balances TCP and UDP, not SCTP")
		return
	}
	for _, n := range servers {
		v.backend(n)
	}
	v.emit(sorry)
}

// directive reads one that concerns the server as a whole.
func (v *server) directive(n *node) {
	switch name := n.name(); name {
	case "lvs_sched", "lb_algo":
		v.failover = n.value() == "fo"
		ours, why := draft.Scheduler(n.value())
		if v.service.Scheduler = ours; why != "" {
			v.lost(n, why)
		}
	case "lvs_method", "lb_kind":
		v.service.Mode = v.mode(n, service.NAT)
	case "protocol":
		v.service.Key.Protocol = 0
		if p, err := service.ParseProtocol(strings.ToLower(n.value())); err == nil {
			v.service.Key.Protocol = p
		}
	case "persistence_timeout":
		v.service.Persistence = 6 * time.Minute
		if n.value() != "" {
			v.service.Persistence = v.duration(n, time.Second, 24*time.Hour, 6*time.Minute)
		}
	case "persistence_granularity":
		if n.value() != "255.255.255.255" && n.value() != "128" {
			v.lost(n, "persistence goes by single client addresses")
		}
	case "flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback":
		if why := draft.SchedulerFlag(v.service.Scheduler, name); why != "" {
			v.lost(n, why)
		}
	case "snmp_name":
		v.name(n)
	case "inhibit_on_failure":
		v.inhibit(n)
	case "sorry_server_lvs_method":
		v.sorryMethod = n
	default:
		if !v.checks.read(v.reader, n) {
			v.notOurs(n)
		}
	}
}

// name takes the name that SNMP knows the server by, if it is one for Sluice.
func (v *server) name(n *node) {
	if name := n.value(); name != "" && len(name) <= 64 && len(v.fronts) == 1 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.service.Name = name
		return
	}
	v.lost(n, "names of Sluice have no spaces, and stand for one address each")
}

// reasons is why directives of virtual and real servers are not carried over.
var reasons = map[string]string{
	"alpha":                "backends are up until their first checks have failed",
	"omega":                "Sluice runs no scripts",
	"quorum":               "Sluice counts backends, not weights: see min_healthy in [service.health]",
	"hysteresis":           "see rise, fall and flap_hold in [service.health]",
	"quorum_up":            scripts,
	"quorum_down":          scripts,
	"notify_up":            scripts,
	"notify_down":          scripts,
	"ha_suspend":           "checks never pause",
	"smtp_alert":           "Sluice sends no mail: let Prometheus alert on its metrics",
	"ops":                  "every UDP packet of a connection goes to one backend; a short [service.timeouts] udp comes near to scheduling each one",
	"hashed":               "Sluice's schedulers have no flags",
	"persistence_engine":   "persistence goes by client addresses",
	"sorry_server_inhibit": "a sorry server is not checked",
	"ip_family":            "the addresses say it",
	"uthreshold":           thresholds,
	"lthreshold":           thresholds,
	"nat_mask":             "has no meaning for Sluice",
	"log_all_failures":     "the log says when a state changes, and why",
	"fast_recovery":        "one URL is checked",
}

const (
	scripts    = "Sluice runs no scripts: its log and its metrics tell"
	thresholds = "Sluice does not limit the connections of a backend"
)

// notOurs notes a directive that Sluice has no key for.
func (r *reader) notOurs(n *node) {
	why := reasons[n.name()]
	if why == "" {
		why = "is unknown here"
	}
	r.lost(n, why)
}

// mode reads lvs_method and its kin: otherwise is for words that mean nothing.
func (r *reader) mode(n *node, otherwise service.Mode) service.Mode {
	switch strings.ToUpper(n.value()) {
	case "NAT":
		return service.NAT
	case "DR":
		return service.DR
	case "TUN":
		if len(n.words) > 3 && n.words[2] == "type" && n.words[3] != "ipip" {
			r.lost(n, "Sluice's tunnels are IPIP: backends must unwrap that")
		}
		return service.TUN
	}
	r.lost(n, "is none of NAT, DR, TUN")
	return otherwise
}

// duration reads a time in seconds, with a fraction perhaps.
func (r *reader) duration(n *node, least, most, otherwise time.Duration) time.Duration {
	seconds, err := strconv.ParseFloat(n.value(), 64)
	if err != nil || math.IsNaN(seconds) || seconds < 0 {
		r.lost(n, "is no number of seconds")
		return otherwise
	}
	d := most
	if seconds < most.Seconds() {
		d = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	}
	if d < least || seconds > most.Seconds() {
		d = max(least, d)
		r.lost(n, "became "+d.String()+", the nearest that is legal")
	}
	return d
}

// integer reads a number.
func (r *reader) integer(n *node, least, most, otherwise int) int {
	v, err := strconv.Atoi(n.value())
	if err != nil {
		r.lost(n, "is no number")
		return otherwise
	}
	if v < least || v > most {
		v = min(max(v, least), most)
		r.lost(n, "became "+strconv.Itoa(v)+", the nearest that is legal")
	}
	return v
}

// isOn reads a switch, which is on if it stands alone.
func isOn(n *node) bool {
	switch strings.ToLower(n.value()) {
	case "off", "no", "false":
		return false
	}
	return true
}

// address reads an IP address.
func address(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err == nil
}
