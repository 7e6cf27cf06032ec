package conf

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
)

// OpenReads says whether everybody who reaches HTTP may read there.
func (a API) OpenReads() bool {
	return a.Reads == ReadsOpen || a.Reads == ReadsLoopback && loopback(a.HTTP)
}

// loopback says whether only this machine can reach "host:port".
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// checkAPI warns of an address that answers nobody, and has the token looked at.
func (r *report) checkAPI(a API, at *place, host *Host) {
	if a.HTTP != "" && a.TokenFile == "" && !a.OpenReads() {
		r.warn(at.key("http"), "answers nobody: reads need a token here, and there is none; set api.token_file, or api.reads = \"open\"")
	}
	if a.TokenFile == "" || host == nil || host.CheckToken == nil {
		return
	}
	err := host.CheckToken(a.TokenFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.warn(at.key("token_file"), "is not there yet, so nothing can be changed over http: %v", err)
	case err != nil:
		r.fail(at.key("token_file"), "%v", err)
	}
}

// checkTokenFile takes the path of a file, or "" for none.
func checkTokenFile(path string) string {
	if path == "" {
		return ""
	}
	return checkFile(path)
}
