package conf

// New returns the configuration of an empty file. It is not valid: it has no ports and no services.
// Engine and API have their defaults.
func New() *Config {
	r, at := &report{}, &place{line: 1}
	return &Config{Engine: r.open(at, "engine", nil).engine(), API: r.open(at, "api", nil).api()}
}

// NewService returns a service with the default of every key that has one, for programs that set
// the rest.
func NewService() Service {
	r := &report{}
	return r.open(&place{line: 1}, "service", nil).service(DefaultTimeouts())
}
