package conf

// config reads the whole file.
func (r *report) config(at *place, values map[string]any, host *Host) *Config {
	root := r.open(at, "", values)
	cfg := &Config{
		Engine: root.table("engine").engine(),
		Ports:  root.portList(),
		API:    root.table("api").api(),
		Access: root.table("access").access(),
	}
	timeouts := root.table("timeouts").timeouts(Timeouts{})
	services := root.tables("service")
	if len(services) > MaxServices {
		r.fail(services[MaxServices].at, "is one service too many; allowed: at most %d", MaxServices)
		services = services[:MaxServices]
	}
	places := make([]*place, len(services))
	backends := 0
	for i, t := range services {
		s := t.service(timeouts)
		cfg.Services = append(cfg.Services, s)
		places[i] = t.at
		before := backends
		if backends += len(s.Servers()); before <= MaxBackends && backends > MaxBackends {
			r.fail(t.at, "has the backend that is one too many; allowed: at most %d in all services together", MaxBackends)
		}
	}
	r.checkIdle(root, len(services))
	r.checkServices(cfg.Services, places)
	r.checkAPI(cfg.API, root.at.key("api"), host)
	if host != nil {
		r.checkHost(cfg, root, places, host)
	}
	return cfg
}

// checkIdle checks that ports are missing only if services are, on purpose, too.
func (r *report) checkIdle(root table, services int) {
	elements, written := elementsOf(root.values["port"])
	switch {
	case services == 0:
		if _, empty := elementsOf(root.values["service"]); empty {
			r.warn(root.at.key("service"), "is empty: no packet is balanced")
		}
	case written && len(elements) == 0:
		r.fail(root.at.key("port"), "is empty, but services need at least one port; write a [[port]]")
	}
}

func (t table) engine() Engine {
	return Engine{
		Cores:       t.integers("cores"),
		Connections: t.integer("connections"),
		Batch:       t.integer("batch"),
		Poll:        Poll(t.word("poll")),
		StuckAfter:  t.duration("stuck_after"),
		StateDir:    t.text("state_dir"),
		HashKey:     t.text("hash_key"),

		AdoptPerSecond: t.integer("adopt_per_second"),

		OnStop: OnStop(t.word("on_stop")),
		BPFDir: t.text("bpf_dir"),
	}
}

func (t table) portList() []Port {
	var all []Port
	lines := map[string]int{} // lines of the names seen
	for _, p := range t.tables("port") {
		port := Port{Name: p.text("name"), Queues: p.integers("queues"), IO: IO(p.word("io")), Line: p.at.line}
		if line, taken := lines[port.Name]; taken && port.Name != "" {
			p.fail(p.at.key("name"), "%q is already a port, see line %d; define each port once", port.Name, line)
		}
		lines[port.Name] = port.Line
		all = append(all, port)
	}
	return all
}

func (t table) api() API {
	return API{
		Socket: t.text("socket"), HTTP: t.text("http"), Host: t.text("host"),
		Metrics: Metrics(t.word("metrics")), Reads: Reads(t.word("reads")), TokenFile: t.text("token_file"),
	}
}

// timeouts returns those of the table, over the defaults of its section, over base.
func (t table) timeouts(base Timeouts) Timeouts {
	for _, k := range timeoutKeys {
		if d := t.duration(k.key); d != 0 {
			*k.field(&base) = d
		}
	}
	return base
}
