package conf

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
)

// OpenReads reports whether all clients that reach HTTP may read.
func (a API) OpenReads() bool {
	return a.Reads == ReadsOpen || a.Reads == ReadsLoopback && loopback(a.HTTP)
}

// loopback reports whether only this machine can reach "host:port".
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

// checkAPI warns if no client could read over HTTP, and checks the token file.
func (r *report) checkAPI(a API, at *place, host *Host) {
	if a.HTTP != "" && a.TokenFile == "" && !a.OpenReads() {
		r.warn(at.key("http"), "no client can read: reads need a token here, and none is configured; set api.token_file, or api.reads = \"open\"")
	}
	if a.TokenFile == "" || host == nil || host.CheckToken == nil {
		return
	}
	err := host.CheckToken(a.TokenFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.warn(at.key("token_file"), "does not exist yet, so changes over http are refused: %v", err)
	case err != nil:
		r.fail(at.key("token_file"), "%v", err)
	}
}

// checkTokenFile checks the path of a file, or "" for none.
func checkTokenFile(path string) string {
	if path == "" {
		return ""
	}
	return checkFile(path)
}
