package keepalived

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// Parse reads a file. name is its name in messages, and included files are relative to its
// directory. The error describes what is wrong with a line; what Sluice lacks is not an error but a
// note of the Draft. The Draft is settled.
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
	r := &reader{Draft: d, groups: map[string]*group{}, local: map[string]*localGroup{}, timeouts: conf.DefaultTimeouts()}
	r.top(nodes)
	if err := d.Settle(); err != nil {
		return d, &draft.Error{Place: draft.Place{File: name}, Text: err.Error()}
	}
	return d, nil
}

// reader converts directives into services. Its methods note what they cannot carry over.
type reader struct {
	*draft.Draft
	groups   map[string]*group
	local    map[string]*localGroup
	fronts   int // of all groups
	timeouts conf.Timeouts
}

// Why whole blocks are not carried over. Those of VRRP have a sentence of their own.
const stays = "Sluice has no VRRP: keepalived can continue to run for it, without the virtual servers"

var blocks = map[string]string{
	"vrrp_instance": stays, "vrrp_sync_group": stays, "vrrp_script": stays, "vrrp_track_process": stays, "vrrp_track_file": stays,
	"track_file": stays, "garp_group": stays, "bfd_instance": stays, "static_ipaddress": stays, "static_addresses": stays, "static_routes": stays,
	"static_rules": stays, "track_group": stays, "static_track_group": stays, "linkbeat_interfaces": stays,
	"interface_up_down_delays": stays, "linkbeat_use_polling": stays,
	"SSL": "checks of Sluice send no certificate and verify none",
}

// top reads the directives outside all blocks, beginning with those that others refer to.
func (r *reader) top(nodes []*node) {
	for _, n := range nodes {
		switch {
		case n.condition != "":
			r.conditional(n)
		case n.name() == "virtual_server_group":
			r.group(n)
		case n.name() == "local_address_group":
			r.localGroup(n)
		case n.name() == "global_defs":
			r.global(n)
		}
	}
	for _, n := range nodes {
		if r.Full() {
			return
		}
		switch why, known := blocks[n.name()]; {
		case n.condition != "", slices.Contains([]string{"virtual_server_group", "local_address_group", "global_defs"}, n.name()):
		case n.name() == "virtual_server":
			r.server(n)
		case known:
			r.lost(n, why)
		default:
			r.lost(n, "is not part of a virtual server")
		}
	}
	for _, n := range nodes {
		group, local := r.groups[n.value()], r.local[n.value()]
		if group != nil && group.node == n && !group.used || local != nil && local.node == n && !local.used {
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
	r.lost(n, "applies only to machines "+n.condition+", and was skipped")
}

// each calls do for the directives of a block that apply to all machines.
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
				r.lost(n, "is not a timeout of Sluice")
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
	service  draft.Service // common to all its addresses
	fronts   []front
	failover bool // scheduler fo
	checks   checkDefaults
	health   *check // of the first real server that has one
	local    *node  // laddr_group_name

	sorryMethod *node   // sorry_server_lvs_method
	inhibited   []*node // inhibit_on_failure of real servers
}

// server reads a virtual_server and adds its services, one for each address.
func (r *reader) server(n *node) {
	v := &server{reader: r, node: n, service: draft.Service{Service: conf.NewService(), From: n.at}, checks: newCheckDefaults()}
	v.service.Timeouts = r.timeouts
	v.service.Key.Protocol = service.UDP
	if why := v.findFronts(); why != "" {
		r.lost(n, why)
		return
	}
	var servers []*node
	var sorry *node
	hasProtocol := false
	r.each(n, func(n *node) {
		hasProtocol = hasProtocol || n.name() == "protocol"
		switch n.name() {
		case "real_server":
			servers = append(servers, n)
		case "sorry_server":
			sorry = n
		default:
			v.directive(n)
		}
	})
	switch {
	case v.service.Key.Protocol == 0:
		r.lost(n, "Sluice balances TCP and UDP, not SCTP")
		return
	case !hasProtocol:
		r.Note(n.at, "%s: has no protocol: it is udp, as in keepalived", n.text())
	}
	for _, n := range servers {
		v.backend(n)
	}
	v.emit(sorry)
}

// directive reads a directive that concerns the whole server.
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
		v.protocol(n)
	case "persistence_timeout":
		v.persistence(n)
	case "persistence_granularity":
		v.service.Persistence = cmp.Or(v.service.Persistence, defaultPersistence)
		if n.value() != "255.255.255.255" && n.value() != "128" {
			v.lost(n, "persistence is by single client address")
		}
	case "flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback":
		if why := draft.SchedulerFlag(&v.service.Service, name); why != "" {
			v.lost(n, why)
		}
	case "snmp_name":
		v.name(n)
	case "inhibit_on_failure":
		v.inhibit(n)
	case "sorry_server_lvs_method":
		v.sorryMethod = n
	case "laddr_group_name":
		v.local = n
	default:
		if !v.checks.read(v.reader, n) {
			v.notOurs(n)
		}
	}
}

// protocol reads the protocol; keepalived ignores one that it does not know.
func (v *server) protocol(n *node) {
	p, err := service.ParseProtocol(strings.ToLower(n.value()))
	switch {
	case err == nil:
		v.service.Key.Protocol = p
	case strings.EqualFold(n.value(), "SCTP"):
		v.service.Key.Protocol = 0
	default:
		v.lost(n, "must be one of TCP, UDP; keepalived ignores it, and so it is "+v.service.Key.Protocol.String())
	}
}

// defaultPersistence is keepalived's, where persistence has no time of its own.
const defaultPersistence = 6 * time.Minute

// persistence reads persistence_timeout; 0 is none.
func (v *server) persistence(n *node) {
	v.service.Persistence = defaultPersistence
	if n.value() == "" {
		return
	}
	v.service.Persistence = 0
	if seconds, err := strconv.ParseFloat(n.value(), 64); err != nil || seconds != 0 {
		v.service.Persistence = v.duration(n, time.Second, 24*time.Hour, defaultPersistence)
	}
}

// name uses the server's SNMP name, if Sluice allows it.
func (v *server) name(n *node) {
	if name := n.value(); name != "" && len(name) <= 64 && len(v.fronts) == 1 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.service.Name = name
		return
	}
	v.lost(n, "names in Sluice have no spaces, and each is for one address")
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
	"ops":                  "all UDP packets of a connection go to one backend; a short [service.timeouts] udp is close to scheduling each packet",
	"hashed":               "Sluice's schedulers have no flags",
	"persistence_engine":   "persistence is by client address",
	"sorry_server_inhibit": "a sorry server is not checked",
	"ip_family":            "the addresses determine it",
	"nat_mask":             "has no meaning for Sluice",
	"log_all_failures":     "the log reports each change of state and its reason",
	"fast_recovery":        "one URL is checked",
	// Of DPVS.
	"syn_proxy":             "Sluice does not answer in place of a server",
	"est_timeout":           serviceTimeouts,
	"establish_timeout":     serviceTimeouts,
	"conn_timeout":          serviceTimeouts,
	"expire_quiescent_conn": "see on_down",
	"hash_target":           "the client's address is hashed",
	"proxy_protocol":        "Sluice adds nothing to a connection",
	"vip_bind_dev":          "Sluice sets no addresses: the interfaces that it uses are in [[port]]",
}

const (
	scripts = "Sluice runs no scripts: use its log and its metrics"

	serviceTimeouts = "see [service.timeouts]"
)

// notOurs notes a directive without a key in Sluice.
func (r *reader) notOurs(n *node) {
	why := reasons[n.name()]
	if why == "" {
		why = "is unknown"
	}
	r.lost(n, why)
}

// mode parses lvs_method and similar directives; it returns otherwise for unknown words.
func (r *reader) mode(n *node, otherwise service.Mode) service.Mode {
	switch strings.ToUpper(n.value()) {
	case "NAT":
		return service.NAT
	case "DR":
		return service.DR
	case "FNAT":
		return service.FullNAT
	case "TUN":
		if len(n.words) > 3 && n.words[2] == "type" && n.words[3] != "ipip" {
			r.lost(n, "Sluice's tunnels are IPIP: backends must decapsulate it")
		}
		return service.TUN
	}
	r.lost(n, "must be one of NAT, DR, TUN, FNAT")
	return otherwise
}

// duration parses a time in seconds, possibly with a fraction.
func (r *reader) duration(n *node, least, most, otherwise time.Duration) time.Duration {
	seconds, err := strconv.ParseFloat(n.value(), 64)
	if err != nil || math.IsNaN(seconds) || seconds < 0 {
		r.lost(n, "is not a number of seconds")
		return otherwise
	}
	d := most
	if seconds < most.Seconds() {
		d = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	}
	if d < least || seconds > most.Seconds() {
		d = max(least, d)
		r.lost(n, "became "+d.String()+", the nearest allowed value")
	}
	return d
}

// integer parses a number.
func (r *reader) integer(n *node, least, most, otherwise int) int {
	v, err := strconv.Atoi(n.value())
	if err != nil {
		r.lost(n, "is not a number")
		return otherwise
	}
	if v < least || v > most {
		v = min(max(v, least), most)
		r.lost(n, "became "+strconv.Itoa(v)+", the nearest allowed value")
	}
	return v
}

// isOn parses a switch, which is on if it has no value.
func isOn(n *node) bool {
	switch strings.ToLower(n.value()) {
	case "off", "no", "false":
		return false
	}
	return true
}

// address parses an IP address.
func address(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err == nil
}
