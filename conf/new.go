package conf

// New gives the configuration of a file that says nothing, which is not a valid one: no ports, no
// services. Engine and API hold their defaults.
func New() *Config {
	r, at := &report{}, &place{line: 1}
	return &Config{Engine: r.open(at, "engine", nil).engine(), API: r.open(at, "api", nil).api()}
}

// NewService gives a service with the default of every key that has one, for programs that fill in
// the rest.
func NewService() Service {
	r := &report{}
	return r.open(&place{line: 1}, "service", nil).service(DefaultTimeouts())
}
