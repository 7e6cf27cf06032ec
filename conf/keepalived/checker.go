package keepalived

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/conf"
	"sluice/pipeline/service"
)

// checkDefaults are the settings of virtual servers for their real servers, and of these for their
// checks.
type checkDefaults struct {
	interval    time.Duration // delay_loop
	timeout     time.Duration // connect_timeout
	retry       int           // -1: the check's own default
	retryAfter  time.Duration // delay_before_retry; -1: the check's own default
	virtualhost string
}

func newCheckDefaults() checkDefaults {
	return checkDefaults{interval: time.Minute, timeout: 5 * time.Second, retry: -1, retryAfter: -1}
}

// read reads a directive that is allowed on all three levels, and reports whether it is one.
func (d *checkDefaults) read(r *reader, n *node) bool {
	switch n.name() {
	case "delay_loop":
		d.interval = r.duration(n, 10*time.Millisecond, 24*time.Hour, d.interval)
	case "connect_timeout":
		d.timeout = r.duration(n, 10*time.Millisecond, 5*time.Minute, d.timeout)
	case "retry", "nb_get_retry", "nb_sock_retry":
		d.retry = r.integer(n, 0, 999, d.retry)
	case "delay_before_retry":
		d.retryAfter = r.duration(n, 0, 24*time.Hour, d.retryAfter)
	case "warmup":
		r.lost(n, "Sluice always spreads checks over their interval; slow_start has another meaning")
	case "virtualhost":
		d.virtualhost = n.value()
	default:
		return false
	}
	return true
}

// check is the health check of a real server, converted.
type check struct {
	conf.Health
	node *node
	pace string // a note on how often it runs; "": as in keepalived
}

// checkTypes maps keepalived's checks to types of Sluice; "" if no type is similar.
var checkTypes = map[string]string{
	"HTTP_GET": conf.HealthHTTP, "SSL_GET": conf.HealthHTTPS, "TCP_CHECK": conf.HealthTCP, "SMTP_CHECK": conf.HealthTCP,
	"DNS_CHECK": conf.HealthDNS, "UDP_CHECK": conf.HealthUDP, "PING_CHECK": conf.HealthPing,
	"MISC_CHECK": "", "BFD_CHECK": "", "FILE_CHECK": "",
}

// checker reads a check of a real server; nil if Sluice has no similar one.
func (v *server) checker(n *node, defaults checkDefaults, key service.BackendKey) *check {
	c := &check{Health: v.service.Health, node: n}
	c.Type = checkTypes[n.name()]
	if c.Type == conf.HealthHTTP || c.Type == conf.HealthHTTPS {
		c.ExpectStatus = successes
	}
	switch {
	case c.Type == "" && v.service.Key.Protocol == service.TCP:
		v.lost(n, noPrograms+": replaced by a tcp check")
		c.Type = conf.HealthTCP
	case c.Type == "":
		v.lost(n, noPrograms+": there is no check")
		return nil
	default:
		v.inside(c, &defaults, key)
	}
	c.Timeout = defaults.timeout
	c.setPace(&defaults)
	if c.Type == conf.HealthHTTP || c.Type == conf.HealthHTTPS {
		v.host(c, defaults.virtualhost)
	}
	return c
}

const noPrograms = "Sluice runs no programs for checks and has no BFD"

// setPace sets how often the check runs, and after how many failures a server is down. keepalived
// tries again some times, in delay_before_retry, before a server is down; Sluice has one interval.
// It is shorter than delay_loop, so that a server that refuses connections is down after the same
// number of failures and in the same time. An interval is at least the timeout: then it takes
// longer. A server that does not answer is down at another time than in keepalived, where a pause
// begins at the end of an attempt.
func (c *check) setPace(d *checkDefaults) {
	retry, after := c.retries(d)
	c.Rise, c.Fall = 1, retry+1
	theirs := d.interval + time.Duration(retry)*after
	c.Interval = max((theirs / time.Duration(c.Fall)).Round(time.Millisecond), c.Timeout)
	ours := time.Duration(c.Fall) * c.Interval
	if (ours - theirs).Abs() <= time.Duration(c.Fall)*time.Millisecond {
		ours = theirs // but for rounding
	}
	oursSilent, theirsSilent := ours+c.Timeout, theirs+time.Duration(c.Fall)*c.Timeout
	if c.Interval == d.interval && ours == theirs && oursSilent == theirsSilent {
		return
	}
	c.pace = fmt.Sprintf("interval = %s and fall = %d: a server that refuses is down after %s, one that does not answer after %s (delay_loop %s, retry %d, delay_before_retry %s)",
		c.Interval, c.Fall, beside(ours, theirs), beside(oursSilent, theirsSilent), d.interval, retry, after)
}

// beside returns a time of Sluice's with keepalived's.
func beside(ours, theirs time.Duration) string {
	if ours == theirs {
		return fmt.Sprintf("%s, as in keepalived", ours)
	}
	return fmt.Sprintf("%s, in keepalived %s", ours, theirs)
}

// retries returns how often keepalived tries again before a server is down, and the pause before
// each attempt.
func (c *check) retries(d *checkDefaults) (retry int, after time.Duration) {
	retry, after = d.retry, d.retryAfter
	if retry < 0 {
		retry = 1
		switch c.node.name() {
		case "DNS_CHECK":
			retry = 3
		case "MISC_CHECK":
			retry = 0
		}
	}
	if after < 0 {
		after = time.Second
		switch c.node.name() {
		case "HTTP_GET", "SSL_GET":
			after = 3 * time.Second
		case "DNS_CHECK":
			after = d.interval
		}
	}
	return retry, after
}

// host sets the host name of the check, if name is valid.
func (v *server) host(c *check, name string) {
	if name == "" || c.Host != "" {
		return
	}
	if strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	}) || len(name) > 253 || strings.Contains(name, "..") || strings.HasPrefix(name, ".") {
		v.Note(c.node.at, "%s: virtualhost %q is not a host name", c.node.name(), name)
		return
	}
	c.Host = name
}

// inside reads the directives of a check.
func (v *server) inside(c *check, defaults *checkDefaults, key service.BackendKey) {
	urls := 0
	if c.node.name() == "SMTP_CHECK" {
		c.Expect = "220"
		v.Note(c.node.at, "SMTP_CHECK: became a tcp check that waits for the greeting, 220; it sends no HELO")
	}
	v.each(c.node, func(n *node) {
		switch name := n.name(); name {
		case "connect_port":
			if port := v.integer(n, 1, 65535, 0); uint16(port) != key.Port {
				c.Port = port
			}
		case "connect_ip":
			if a, ok := address(n.value()); !ok || a != key.Address {
				v.lost(n, "the backend's own address is checked")
			}
		case "bindto", "bind_if", "bind_port", "fwmark":
			v.lost(n, "checks follow the kernel's routes")
		case "url":
			if urls++; urls > 1 {
				v.lost(n, "Sluice checks one URL")
				return
			}
			v.url(c, n)
		case "helo_name":
			v.lost(n, "no HELO is sent")
		case "http_protocol":
			v.lost(n, "checks use HTTP/1.1 and close the connection")
		case "enable_sni", "tls_compliant":
			// Sluice sends the host as SNI and closes connections regularly.
		case "sni_name":
			v.host(c, n.value())
		case "type", "name":
			v.dns(c, n)
		case "payload", "require_reply", "min_reply_length", "max_reply_length":
			v.udp(c, n)
		default:
			if !defaults.read(v.reader, n) {
				v.notOurs(n)
			}
		}
	})
}

// url reads the request of an HTTP check, and the required answer.
func (v *server) url(c *check, n *node) {
	v.each(n, func(n *node) {
		switch n.name() {
		case "path":
			path := n.value()
			if !strings.HasPrefix(path, "/") || len(path) > 1024 || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }) || !utf8.ValidString(path) {
				v.lost(n, "is not a path; / is requested")
				return
			}
			c.Path = path
		case "status_code":
			c.ExpectStatus = v.statuses(n)
		case "virtualhost":
			v.host(c, n.value())
		case "digest":
			v.lost(n, "Sluice searches the answer for a text (expect_body) and computes no digest")
		case "regex":
			if text := strings.Join(n.words[1:], " "); text != "" && len(text) <= 1024 && utf8.ValidString(text) && !strings.ContainsAny(text, `\.+*?()|[]{}^$`) {
				c.ExpectBody = text
				return
			}
			v.lost(n, "Sluice searches the answer for a text (expect_body), not for a pattern")
		case "tls_compliant":
		default:
			if strings.HasPrefix(n.name(), "regex_") {
				v.lost(n, "Sluice searches the answer for a text (expect_body), not for a pattern")
				return
			}
			v.notOurs(n)
		}
	})
}

// successes are the 2xx codes registered with IANA: what keepalived accepts without status_code.
var successes = []int{200, 201, 202, 203, 204, 205, 206, 207, 208, 226}

// statuses parses codes and ranges of them. Of a wide range it returns the registered codes. nil
// means 200 to 399.
func (v *server) statuses(n *node) (all []int) {
	for _, word := range n.words[1:] {
		first, last, isRange := strings.Cut(word, "-")
		from, err1 := strconv.Atoi(first)
		to, err2 := from, error(nil)
		if isRange {
			to, err2 = strconv.Atoi(last)
		}
		if err1 != nil || err2 != nil || from < 100 || to > 599 || to < from {
			v.lost(n, strconv.Quote(word)+" is not a status from 100 to 599")
			continue
		}
		if from == 200 && to == 399 && len(n.words) == 2 {
			return nil
		}
		for code := from; code <= to; code++ {
			if (to-from < 20 || slices.Contains(inUse, code)) && !slices.Contains(all, code) {
				all = append(all, code)
			}
		}
	}
	if len(all) == 0 {
		return successes
	}
	return all
}

// inUse are the status codes registered with IANA.
var inUse = slices.Concat([]int{100, 101, 102, 103}, successes, []int{300, 301, 302, 303, 304, 305, 307, 308},
	[]int{400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451},
	[]int{500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511})

// dns reads the query for a name server.
func (v *server) dns(c *check, n *node) {
	switch {
	case c.Type != conf.HealthDNS:
		v.notOurs(n)
	case n.name() == "type" && n.value() == "A":
	case n.name() == "type":
		v.lost(n, "Sluice queries A, or NS of the root")
	default:
		name := n.value()
		if labels := strings.Trim(name, "."); name != "." && (labels == "" || len(name) > 253 || strings.ContainsAny(name, " \t/:\\\"") || strings.Contains(name, "..")) {
			v.lost(n, "is not a domain name; the root is queried")
			return
		}
		c.Query = name
	}
}

// udp reads what to send and the required answer, both hexadecimal.
func (v *server) udp(c *check, n *node) {
	switch {
	case c.Type != conf.HealthUDP:
		v.notOurs(n)
	case n.name() == "payload":
		if text, whole := unhex(n.words[1:]); whole && utf8.ValidString(text) && len(text) <= 1024 {
			c.Send = text
			return
		}
		v.lost(n, "is not hexadecimal, or not UTF-8 as a TOML string must be; an empty datagram is sent")
	case n.name() == "require_reply" && len(n.words) > 1:
		text, whole := unhex(n.words[1:])
		if text != "" && utf8.ValidString(text) && len(text) <= 1024 {
			c.Expect = text
		}
		if !whole || c.Expect == "" {
			v.lost(n, fmt.Sprintf("the answer must begin with %q; the rest could not be carried over", c.Expect))
		}
	case n.name() == "require_reply":
		v.lost(n, "Sluice can check only the beginning of an answer (expect); silence is now success")
	default:
		v.lost(n, "Sluice does not check the length of the answer")
	}
}

// unhex parses bytes in free notation: an odd digit at the end of a word is a byte. whole is false
// if something other than a byte, such as an X for any digit, ended it.
func unhex(words []string) (text string, whole bool) {
	var b []byte
	for _, word := range words {
		for len(word) > 0 {
			pair := word[:min(2, len(word))]
			word = word[len(pair):]
			if len(pair) == 1 {
				pair = "0" + pair
			}
			one, err := hex.DecodeString(pair)
			if err != nil {
				return string(b), false
			}
			b = append(b, one...)
		}
	}
	return string(b), true
}
