package api

import (
	"net/netip"
	"strings"
)

// FindService returns the service that text identifies: by its name, by its key ("tcp
// 198.51.100.10:80", also with "/" for the space), or by address and port or the address alone if
// only one service fits. Errors are NoSuchService and Ambiguous.
func FindService(services []Service, text string) (Service, error) {
	names := make([]string, len(services))
	for i, s := range services {
		if s.Name == text {
			return s, nil
		}
		names[i] = s.Name
	}
	protocol, where := "", text
	if i := strings.IndexAny(text, " /"); i >= 0 {
		protocol, where = strings.ToLower(text[:i]), strings.TrimSpace(text[i+1:])
	}
	where = canonical(where)
	fits := func(s Service) bool {
		return (protocol == "" || protocol == s.Protocol) &&
			(where == s.Address || where == endpoint(s.Address, s.Port.String()))
	}
	return one(services, fits, func(s Service) string { return s.Name }, text,
		&NoSuchService{Service: text, Legal: names})
}

// FindBackend returns the backend of s that text identifies: by address and port, or by the address
// alone if only one backend has it. Errors are NoSuchBackend and Ambiguous.
func FindBackend(s Service, text string) (Backend, error) {
	where := canonical(text)
	endpoints := make([]string, len(s.Backends))
	for i, b := range s.Backends {
		endpoints[i] = b.Endpoint()
	}
	fits := func(b Backend) bool { return where == b.Address || where == b.Endpoint() }
	return one(s.Backends, fits, Backend.Endpoint, text,
		&NoSuchBackend{Service: s.Name, Backend: text, Legal: endpoints})
}

// one returns the only element that fits. It returns the error none if no element fits, and
// Ambiguous if several do.
func one[T any](all []T, fits func(T) bool, name func(T) string, text string, none error) (T, error) {
	var found T
	var names []string
	for _, candidate := range all {
		if fits(candidate) {
			found = candidate
			names = append(names, name(candidate))
		}
	}
	switch len(names) {
	case 0:
		return found, none
	case 1:
		return found, nil
	}
	return found, &Ambiguous{Text: text, Fits: names}
}

// canonical returns an address, with or without a port, in the daemon's notation:
// "[2001:DB8:0::1]:80" becomes "[2001:db8::1]:80", "[::1]" becomes "::1". Other text is returned
// unchanged and fits nothing.
func canonical(text string) string {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.String()
	}
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		if a, err := netip.ParseAddr(strings.Trim(text[:i], "[]")); err == nil {
			return endpoint(a.String(), text[i+1:])
		}
	}
	return text
}
