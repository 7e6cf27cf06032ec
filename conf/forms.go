package conf

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The functions of this file return what is wrong with a string, or "".

// sized returns a check that a string has from low to high bytes.
func sized(low, high int) func(string) string {
	return func(text string) string {
		if len(text) < low || len(text) > high {
			return fmt.Sprintf("has %d bytes", len(text))
		}
		return ""
	}
}

func checkName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case utf8.RuneCountInString(name) > 64:
		return fmt.Sprintf("has %d characters", utf8.RuneCountInString(name))
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }):
		return fmt.Sprintf("%q has a space or an unprintable character", name)
	}
	return ""
}

// checkInterface follows dev_valid_name (net/core/dev.c).
func checkInterface(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 15:
		return fmt.Sprintf("%q has %d bytes, the kernel allows 15", name, len(name))
	case name == ".", name == "..",
		strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Sprintf("%q is not a valid interface name", name)
	case name == "lo":
		return "lo carries no client traffic"
	}
	return ""
}

// checkSocket reserves one of the 108 bytes of sun_path for the final zero, see unix(7).
func checkSocket(path string) string {
	if len(path) > 107 {
		return fmt.Sprintf("has %d bytes", len(path))
	}
	return checkFile(path)
}

// checkFile checks the path of a file that need not exist.
func checkFile(path string) string {
	switch {
	case !filepath.IsAbs(path):
		return fmt.Sprintf("%q is not an absolute path", path)
	case len(path) > 4095:
		return fmt.Sprintf("has %d bytes, the kernel allows 4095", len(path))
	case strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Sprintf("%q has a control character", path)
	case strings.HasSuffix(path, "/"):
		return fmt.Sprintf("%q is a directory, not a file in it", path)
	}
	return ""
}

// checkDir checks a directory.
func checkDir(path string) string {
	if path == "" {
		return "must not be empty"
	}
	return checkStateDir(path)
}

// checkStateDir checks a directory, or "" for none.
func checkStateDir(path string) string {
	switch {
	case path == "":
		return ""
	case !filepath.IsAbs(path):
		return fmt.Sprintf("%q is not an absolute path", path)
	case strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Sprintf("%q has a control character", path)
	}
	return ""
}

func checkHostPort(text string) string {
	if text == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Sprintf("%q is not host:port", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("%q has port %q, which must be from 1 to 65535", text, port)
	}
	if host != "" && checkHost(host) != "" {
		return fmt.Sprintf("%q has host %q, which must be a name or an address", text, host)
	}
	return ""
}

func checkPath(path string) string {
	if !strings.HasPrefix(path, "/") {
		return fmt.Sprintf("%q does not begin with /", path)
	}
	if len(path) > 1024 {
		return fmt.Sprintf("has %d bytes, more than 1024", len(path))
	}
	if strings.ContainsFunc(path, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Sprintf("%q has a space or control character; write %%20 for a space", path)
	}
	return ""
}

func checkHost(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return ""
	}
	if host == "." {
		return `"." is not a host`
	}
	return checkDomain(host)
}

// checkDomain allows what RFC 1035 section 2.3 and practice (underscores) allow.
func checkDomain(name string) string {
	if name == "." {
		return ""
	}
	trimmed := strings.TrimSuffix(name, ".")
	if len(trimmed) > 253 {
		return fmt.Sprintf("has %d bytes, more than 253", len(trimmed))
	}
	for label := range strings.SplitSeq(trimmed, ".") {
		letters := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || letters {
			return fmt.Sprintf("%q is not a domain name", name)
		}
	}
	return ""
}

// parseAddress parses a unicast address that is valid on any network.
func parseAddress(text string) (netip.Addr, string) {
	if _, err := netip.ParsePrefix(text); err == nil {
		return netip.Addr{}, fmt.Sprintf("%q is a prefix, not one address", text)
	}
	if _, err := netip.ParseAddrPort(text); err == nil {
		return netip.Addr{}, fmt.Sprintf("%q has a port; set the port with its own key", text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Sprintf("%q is not an IP address", text)
	}
	if why := unusable(a); why != "" {
		return netip.Addr{}, fmt.Sprintf("%s %s", text, why)
	}
	return a, ""
}

// unusable returns why an address can be neither service, backend nor source.
func unusable(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "has a zone, which is valid on one machine only"
	case a.Is4In6():
		return "is an IPv4 address in IPv6 form; write " + a.Unmap().String()
	case a.IsUnspecified():
		return "is the unspecified address"
	case a.IsLoopback():
		return "is a loopback address, which no other machine can reach"
	case a.IsMulticast():
		return "is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	case a.Is4() && a.As4()[0] == 0:
		return "is in 0.0.0.0/8, which is not a valid destination (RFC 1122)"
	case a.Is6() && a.IsLinkLocalUnicast():
		return "is a link-local address, which is valid on one link only"
	}
	return ""
}
