package conf

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// hint returns what an invalid value was probably meant to be, in front of what is allowed:
// `did you mean "nat"? `. It returns "" if there is no good guess.
func (s *Setting) hint(raw any) string {
	text, isText := raw.(string)
	switch s.Kind {
	case Word:
		if word := s.guessWord(text); word != "" {
			return fmt.Sprintf("did you mean %q? ", word)
		}
	case Duration:
		if d := guessDuration(raw); d != "" {
			return fmt.Sprintf("write %q; ", d)
		}
	case Integer, Integers:
		if _, err := strconv.Atoi(text); err == nil && isText {
			return "write " + text + " without quotes; "
		}
	case Address, Addresses:
		return hintAddress(text)
	case Ports:
		if raw == int64(0) {
			text = "0"
		}
		return hintPorts(text)
	}
	return ""
}

// hintList returns what to write instead of a single value where a list belongs.
func hintList(raw any) string {
	switch v := raw.(type) {
	case int64:
		return fmt.Sprintf("write [%d]; ", v)
	case string:
		if len(v) <= 64 {
			return fmt.Sprintf("write [%q]; ", v)
		}
	}
	return ""
}

// otherWords are words of IPVS, keepalived, DPVS, nginx and HAProxy for those of Sluice.
var otherWords = map[string]map[string]string{
	"mode": {
		"masq": "nat", "masquerade": "nat", "masquerading": "nat", "dnat": "nat", "route": "dr", "gate": "dr", "gatewaying": "dr",
		"droute": "dr", "direct": "dr", "dsr": "dr", "tunnel": "tun", "ipip": "tun", "fnat": "fullnat", "full-nat": "fullnat", "full_nat": "fullnat",
	},
	"scheduler": {
		"roundrobin": "rr", "round-robin": "rr", "round_robin": "rr", "leastconn": "wlc", "least-conn": "wlc", "least_conn": "wlc",
		"source": "sh", "ip_hash": "sh", "maglev": "mh", "conhash": "mh", "consistent": "mh", "twos": "p2c",
	},
	"type": {
		"tcp_check": HealthTCP, "http_get": HealthHTTP, "ssl": HealthHTTPS, "ssl_get": HealthHTTPS, "udp_check": HealthUDP,
		"dns_check": HealthDNS, "icmp": HealthPing, "ping_check": HealthPing, "off": HealthNone,
	},
}

// guessWord returns the word of the setting that text was meant to be, or "".
func (s *Setting) guessWord(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if len(text) > 64 {
		return ""
	}
	if slices.Contains(s.Words, text) {
		return text
	}
	if word := otherWords[s.Key][text]; word != "" {
		return word
	}
	if len(text) < 4 {
		return "" // a letter more or less is another scheduler
	}
	for _, word := range s.Words {
		if len(word) >= 4 && distance(text, word) == 1 {
			return word
		}
	}
	return ""
}

// looseDuration matches a number with or without a unit, such as "30", "5 min" and "1 day".
var looseDuration = regexp.MustCompile(`^(\d+)\s*([a-z]*)$`)

// guessDuration returns a duration as Sluice reads it for a value that has none of Go's units.
func guessDuration(raw any) string {
	text := fmt.Sprint(raw)
	if _, err := time.ParseDuration(text); err == nil && raw != int64(0) {
		return "" // out of range
	}
	m := looseDuration.FindStringSubmatch(strings.ToLower(strings.TrimSpace(text)))
	if m == nil || len(m[1]) > 9 {
		return ""
	}
	switch m[2] {
	case "", "s", "sec", "secs", "second", "seconds":
		return m[1] + "s"
	case "ms", "msec", "millisecond", "milliseconds":
		return m[1] + "ms"
	case "m", "min", "mins", "minute", "minutes":
		return m[1] + "m"
	case "h", "hr", "hour", "hours":
		return m[1] + "h"
	case "d", "day", "days":
		n, _ := strconv.Atoi(m[1])
		return strconv.Itoa(24*n) + "h"
	}
	return ""
}

// hintAddress returns what to write for an address in brackets, with a prefix length or port, and
// for a name.
func hintAddress(text string) string {
	inner, bracketed := strings.CutPrefix(strings.TrimSpace(text), "[")
	inner, bracketed2 := strings.CutSuffix(inner, "]")
	if _, err := netip.ParseAddr(inner); err == nil {
		if bracketed && bracketed2 {
			return fmt.Sprintf("write it without brackets, %q; ", inner)
		}
		if inner != text {
			return fmt.Sprintf("write %q; ", inner)
		}
		return ""
	}
	if p, err := netip.ParsePrefix(inner); err == nil {
		return fmt.Sprintf("write %q; ", p.Addr())
	}
	if p, err := netip.ParseAddrPort(text); err == nil {
		return fmt.Sprintf("write %q and port = %d; ", p.Addr(), p.Port())
	}
	return hintName(text)
}

// hintName returns a hint if the text is a name where addresses belong.
func hintName(text string) string {
	if text != "" && checkDomain(text) == "" && strings.ContainsFunc(text, unicode.IsLetter) {
		return "names are not looked up: write the address of " + clipWord(text) + "; "
	}
	return ""
}

// hintPorts returns what to write for a descending range, a list, and names of all ports.
func hintPorts(text string) string {
	if len(text) > 64 {
		return ""
	}
	first, last, isRange := strings.Cut(strings.NewReplacer(":", "-", "..", "-", " ", "").Replace(text), "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	switch text = strings.ToLower(strings.TrimSpace(text)); {
	case isRange && errA == nil && errB == nil && min(a, b) > 0:
		return fmt.Sprintf(`write "%d-%d"; `, min(a, b), max(a, b))
	case !isRange && errA == nil && a > 0:
		return fmt.Sprintf("write %d; ", a)
	case text == "0" || text == "*" || text == "all" || text == "any":
		return `write "any"; `
	case strings.Contains(text, ","):
		return "write a [[service]] for each port; "
	case text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) }):
		return "names of ports are not looked up: write the number; "
	}
	return ""
}
