package ipvsadm

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// reader reads the lines.
type reader struct {
	draft    *draft.Draft
	services []*entry // in the order of the file
	byName   map[string]*entry
	servers  int // that were added
	steps    int // of edits and deletions
	timeouts conf.Timeouts
}

// maxSteps limits the services and servers that edits and deletions search.
const maxSteps = 100_000_000

// entry is a service with the text that identifies it in the file, such as "-t 198.51.100.10:80".
type entry struct {
	name string
	draft.Service
	lost     string // why Sluice does not support it; "": it does
	failover bool   // scheduler fo

	fullNAT bool         // a server has it
	local   []netip.Addr // addresses that full NAT sends from
}

// Parse reads a dump. name is its name in messages. The error describes what is wrong with a line;
// what Sluice lacks is not an error but a note of the Draft. The Draft is settled.
func Parse(name string, data []byte) (*draft.Draft, error) {
	r := &reader{draft: &draft.Draft{Origin: "the ipvsadm dump " + name}, byName: map[string]*entry{}, timeouts: conf.DefaultTimeouts()}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		c, err := read(draft.Place{File: name, Line: number}, line)
		if err == nil && c.verb != "" {
			err = r.do(c)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, e := range r.services {
		if e.lost == "" {
			e.Timeouts = r.timeouts
			if e.failover {
				draft.KeepHighest(&e.Service)
			}
			r.applyLocal(e)
			r.draft.Add(e.Service)
		}
	}
	if err := r.draft.Settle(); err != nil {
		return r.draft, &draft.Error{Place: draft.Place{File: name}, Text: err.Error()}
	}
	return r.draft, nil
}

// do executes one command.
func (r *reader) do(c *command) error {
	switch c.verb {
	case "add-service", "edit-service":
		return r.service(c)
	case "add-server", "edit-server":
		return r.server(c)
	case "delete-service":
		return r.deleteService(c)
	case "delete-server":
		return r.deleteServer(c)
	case "clear":
		r.services = nil
		clear(r.byName)
	case "set":
		return r.setTimeouts(c)
	case "add-laddr":
		return r.localAddress(c)
	case "del-laddr", "add-blklst", "del-blklst", "add-whtlst", "del-whtlst":
		r.draft.Note(c.at, "--%s: is not carried over", c.verb)
	case "start-daemon", "stop-daemon":
		r.draft.Note(c.at, "--%s: Sluice does not share connections between hosts", c.verb)
	}
	return nil
}

// named returns the text that identifies the command's service, and its protocol, 0 if Sluice does
// not support it.
func (c *command) named() (name string, protocol service.Protocol, err error) {
	for _, kind := range []struct {
		option   string
		protocol service.Protocol
	}{{"tcp-service", service.TCP}, {"udp-service", service.UDP}, {"sctp-service", 0}, {"fwmark-service", 0},
		{"icmp-service", 0}, {"icmpv6-service", 0}, {"match", 0}} {
		if !c.has[kind.option] {
			continue
		}
		if name != "" {
			return "", 0, c.fail("names two services, %s and --%s %s", name, kind.option, c.value[kind.option])
		}
		name, protocol = "--"+kind.option+" "+c.value[kind.option], kind.protocol
	}
	if name == "" {
		return "", 0, c.fail("names no service: -t, -u or -f is missing")
	}
	return name, protocol, nil
}

// search counts the steps of a search, and returns an error if there were too many.
func (r *reader) search(c *command, steps int) error {
	if r.steps += steps; r.steps > maxSteps {
		return c.fail("the file has too many edits and deletions: import the output of `ipvsadm -S -n`")
	}
	return nil
}

// service reads -A, and -E, which sets all options again.
func (r *reader) service(c *command) error {
	name, protocol, err := c.named()
	if err != nil {
		return err
	}
	e := r.byName[name]
	if e == nil {
		if len(r.services) == draft.MaxServices {
			return c.fail("the file %s", draft.ErrLarge)
		}
		e = &entry{name: name}
		r.services, r.byName[name] = append(r.services, e), e
	}
	backends := e.Backends
	e.Service, e.lost = draft.Service{Service: conf.NewService(), From: c.at, Backends: backends}, ""
	switch {
	case c.has["fwmark-service"]:
		e.lost = "Sluice has no firewall marks: write a [[service]] for each address and port of the mark"
	case c.has["sctp-service"]:
		e.lost = "Sluice balances TCP and UDP, not SCTP"
	case protocol == 0:
		e.lost = "Sluice balances TCP and UDP that is sent to an address"
	}
	if e.lost != "" {
		r.draft.Note(c.at, "service %s: %s", name, e.lost)
		return nil
	}
	address, port, err := c.endpoint(strings.TrimPrefix(name, "--"+protocol.String()+"-service "))
	if err != nil {
		return err
	}
	e.Key = service.Key{Address: address, Ports: service.Ports{First: port, Last: port}, Protocol: protocol}
	if port == 0 {
		e.Key.Ports = service.AnyPort
	}
	return r.qualities(c, e)
}

// qualities reads how connections of a service are scheduled.
func (r *reader) qualities(c *command, e *entry) error {
	e.Scheduler, e.failover = "wlc", false
	if asked := c.value["scheduler"]; asked != "" {
		e.failover = asked == "fo"
		ours, why := draft.Scheduler(asked)
		if e.Scheduler = ours; why != "" {
			r.draft.Note(c.at, "-s %s: %s", asked, why)
		}
	}
	for flag := range strings.SplitSeq(c.value["sched-flags"], ",") {
		if why := draft.SchedulerFlag(&e.Service.Service, flag); flag != "" && why != "" {
			r.draft.Note(c.at, "-b %s: %s", flag, why)
		}
	}
	if c.has["persistent"] {
		seconds, err := strconv.Atoi(cmp.Or(c.value["persistent"], "300"))
		if err != nil || seconds < 1 {
			return c.fail("-p %s is not a number of seconds", c.value["persistent"])
		}
		e.Persistence = draft.Clip(r.draft, c.at, "-p", seconds, 24*time.Hour)
	}
	if mask := c.value["netmask"]; mask != "" && mask != "255.255.255.255" && mask != "128" {
		r.draft.Note(c.at, "-M %s: persistence is by single client address", mask)
	}
	if c.has["ops"] {
		r.draft.Note(c.at, "-o: all UDP packets of a connection go to one backend; a short [service.timeouts] udp is close to scheduling each packet")
	}
	for _, option := range []string{"synproxy", "hash-target", "expire-quiescent", "dest-check", "conn-timeout", "proxy-protocol", "quic"} {
		if c.has[option] {
			r.draft.Note(c.at, "--%s: is not carried over", option)
		}
	}
	if c.has["pe"] {
		r.draft.Note(c.at, "--pe %s: persistence is by client address", c.value["pe"])
	}
	return nil
}

// server reads -a, and -e.
func (r *reader) server(c *command) error {
	name, _, err := c.named()
	if err != nil {
		return err
	}
	e := r.byName[name]
	if e == nil {
		return c.fail("service %s was not added before", name)
	}
	if !c.has["real-server"] {
		return c.fail("names no server: -r is missing")
	}
	switch {
	case e.lost != "":
		r.draft.Note(c.at, "backend %s: its service %s is left out", c.value["real-server"], name)
		return nil
	case c.has["snat"]:
		r.draft.Note(c.at, "backend %s is left out: Sluice has no SNAT for connections of servers (-J)", c.value["real-server"])
		return nil
	}
	address, port, err := c.endpoint(c.value["real-server"])
	if err != nil {
		return err
	}
	b := draft.Backend{Backend: conf.Backend{Key: service.BackendKey{Address: address, Port: port}, Weight: 1, Mode: c.mode()}, From: c.at}
	if w := c.value["weight"]; w != "" {
		if b.Weight, err = strconv.Atoi(w); err != nil || b.Weight < 0 || b.Weight > 65535 {
			return c.fail("-w %s is not a weight from 0 to 65535", w)
		}
	}
	if b.MaxConnections, b.MinConnections, err = c.thresholds(); err != nil {
		return err
	}
	r.notCarried(c)
	if why := draft.FitPort(&b.Backend, e.Key.Ports); why != "" {
		r.draft.Note(c.at, "-r %s: %s", c.value["real-server"], why)
	}
	if len(e.Backends) == 0 {
		e.Mode = b.Mode
	}
	e.fullNAT = e.fullNAT || b.Mode == service.FullNAT
	if c.verb == "edit-server" {
		if err := r.search(c, len(e.Backends)); err != nil {
			return err
		}
		if i := slices.IndexFunc(e.Backends, func(o draft.Backend) bool { return o.Key == b.Key }); i >= 0 {
			e.Backends[i] = b
			return nil
		}
	}
	if r.servers++; r.servers > draft.MaxBackends {
		return c.fail("the file %s", draft.ErrLarge)
	}
	e.Backends = append(e.Backends, b)
	return nil
}

// mode returns the forwarding mode of a server: DR by default, as in ipvsadm(8).
func (c *command) mode() service.Mode {
	switch {
	case c.has["masquerading"]:
		return service.NAT
	case c.has["ipip"]:
		return service.TUN
	case c.has["fullnat"]:
		return service.FullNAT
	}
	return service.DR
}

// localAddress reads DPVS's -P: an address that full NAT sends from.
func (r *reader) localAddress(c *command) error {
	name, _, err := c.named()
	if err != nil {
		return err
	}
	e := r.byName[name]
	switch {
	case e == nil:
		return c.fail("service %s was not added before", name)
	case !c.has["laddr"]:
		return c.fail("names no local address: -z is missing")
	}
	address, _, err := c.endpoint(c.value["laddr"])
	if err != nil {
		return err
	}
	if err := r.search(c, len(e.local)); err != nil {
		return err
	}
	if !slices.Contains(e.local, address) {
		e.local = append(e.local, address)
	}
	return nil
}

// applyLocal sets the local addresses of a service that has full NAT. A dump has none.
func (r *reader) applyLocal(e *entry) {
	switch {
	case !e.fullNAT:
	case len(e.local) == 0:
		r.draft.Note(e.From, "service %s: a dump of DPVS does not have the local addresses of full NAT, which `ipvsadm -G` lists: "+
			"append a line `-P %s -z ADDRESS` for each and import again", e.name, e.name)
	default:
		e.Source = e.local
	}
}

// thresholds returns the limits of a server's connections, 0 for none. A lower one without an upper
// one has no effect in IPVS.
func (c *command) thresholds() (upper, lower int, err error) {
	for _, t := range []struct {
		option string
		to     *int
	}{{"u-threshold", &upper}, {"l-threshold", &lower}} {
		v := c.value[t.option]
		if v == "" {
			continue
		}
		if *t.to, err = strconv.Atoi(v); err != nil || *t.to < 0 || *t.to > 1<<27 {
			return 0, 0, c.fail("--%s %s is not a number of connections from 0 to %d", t.option, v, 1<<27)
		}
	}
	if upper == 0 || lower > upper {
		lower = 0
	}
	return upper, lower, nil
}

// notCarried notes the options of a server that Sluice lacks.
func (r *reader) notCarried(c *command) {
	if kind := c.value["tun-type"]; kind != "" && kind != "ipip" {
		r.draft.Note(c.at, "--tun-type %s: Sluice's tunnels are IPIP; the backend must decapsulate it", kind)
	}
}

func (r *reader) deleteService(c *command) error {
	name, _, err := c.named()
	if err != nil {
		return err
	}
	delete(r.byName, name)
	r.services = slices.DeleteFunc(r.services, func(e *entry) bool { return e.name == name })
	return r.search(c, len(r.services))
}

func (r *reader) deleteServer(c *command) error {
	name, _, err := c.named()
	if err != nil {
		return err
	}
	e := r.byName[name]
	if e == nil || e.lost != "" {
		return nil
	}
	address, port, err := c.endpoint(c.value["real-server"])
	if err != nil {
		return err
	}
	if err := r.search(c, len(e.Backends)); err != nil {
		return err
	}
	e.Backends = slices.DeleteFunc(e.Backends, func(b draft.Backend) bool {
		return b.Key.Address == address && (b.Key.Port == port || port == 0)
	})
	return nil
}

// setTimeouts reads --set: 0 leaves a timeout unchanged.
func (r *reader) setTimeouts(c *command) error {
	for i, field := range []*time.Duration{&r.timeouts.TCPEstablished, &r.timeouts.TCPFinWait, &r.timeouts.UDP} {
		seconds, err := strconv.Atoi(c.timeout[i])
		if err != nil || seconds < 0 {
			return c.fail("--set: %q is not a number of seconds", c.timeout[i])
		}
		if seconds > 0 {
			*field = draft.Clip(r.draft, c.at, "--set", seconds, 24*time.Hour)
		}
	}
	return nil
}

// endpoint parses 10.0.0.11:80, [2001:db8::11]:80, or an address alone; its port is then 0.
func (c *command) endpoint(text string) (netip.Addr, uint16, error) {
	host, port := text, ""
	switch end := strings.LastIndexByte(text, ']'); {
	case strings.HasPrefix(text, "[") && end > 0:
		host, port = text[1:end], strings.TrimPrefix(text[end+1:], ":")
	case strings.Count(text, ":") == 1:
		host, port, _ = strings.Cut(text, ":")
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, 0, c.fail("%q is not an address; dump with `ipvsadm -S -n`, which prints no names", host)
	}
	if port == "" {
		return address.Unmap(), 0, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, c.fail("%q is not a port; dump with `ipvsadm -S -n`, which prints no names", port)
	}
	return address.Unmap(), uint16(n), nil
}
