package ipvsadm

import (
	"fmt"
	"strings"

	"sluice/conf/draft"
)

// argument is what follows an option.
type argument uint8

const (
	none    argument = iota
	needed           // a word
	number           // a number, if the next word is one
	numbers          // three numbers
)

// option is one option of ipvsadm. Commands are options too.
type option struct {
	short   byte // 0: none
	long    string
	follows argument
	command bool
}

var options = []option{
	{'A', "add-service", none, true}, {'E', "edit-service", none, true}, {'D', "delete-service", none, true},
	{'a', "add-server", none, true}, {'e', "edit-server", none, true}, {'d', "delete-server", none, true},
	{'C', "clear", none, true}, {0, "set", numbers, true}, {'Z', "zero", none, true}, {'L', "list", none, true},
	{'l', "list", none, true}, {'R', "restore", none, true}, {'S', "save", none, true},
	{0, "start-daemon", needed, true}, {0, "stop-daemon", needed, true},
	{0, "syncid", needed, false}, {0, "mcast-interface", needed, false}, {0, "sync-maxlen", needed, false},
	{0, "mcast-group", needed, false}, {0, "mcast-port", needed, false}, {0, "mcast-ttl", needed, false},
	{'t', "tcp-service", needed, false}, {'u', "udp-service", needed, false}, {0, "sctp-service", needed, false},
	{'f', "fwmark-service", needed, false}, {'s', "scheduler", needed, false}, {'p', "persistent", number, false},
	{'M', "netmask", needed, false}, {'b', "sched-flags", needed, false}, {0, "pe", needed, false},
	{'o', "ops", none, false}, {'O', "ops", none, false}, {'6', "ipv6", none, false}, {'n', "numeric", none, false},
	{'r', "real-server", needed, false}, {'g', "gatewaying", none, false}, {'i', "ipip", none, false},
	{'m', "masquerading", none, false}, {'w', "weight", needed, false}, {'x', "u-threshold", needed, false},
	{'y', "l-threshold", needed, false}, {0, "tun-type", needed, false}, {0, "tun-port", needed, false},
	{0, "tun-nocsum", none, false}, {0, "tun-csum", none, false}, {0, "tun-remcsum", none, false},
	// Of DPVS.
	{'P', "add-laddr", none, true}, {'Q', "del-laddr", none, true}, {'G', "get-laddr", none, true},
	{'U', "add-blklst", none, true}, {'V', "del-blklst", none, true}, {'B', "get-blklst", none, true},
	{0, "add-whtlst", none, true}, {'Y', "del-whtlst", none, true}, {'W', "get-whtlst", none, true},
	{0, "fullnat", none, false}, {'J', "snat", none, false}, {'z', "laddr", needed, false}, {'F', "ifname", needed, false},
	{'k', "blklst", needed, false}, {'2', "whtlst", needed, false}, {'q', "icmp-service", needed, false},
	{'1', "icmpv6-service", needed, false}, {'H', "match", needed, false}, {'j', "synproxy", needed, false},
	{0, "hash-target", needed, false}, {0, "cpu", needed, false}, {0, "expire-quiescent", none, false},
	{0, "dest-check", needed, false}, {0, "conn-timeout", needed, false}, {0, "proxy-protocol", needed, false},
	{0, "quic", none, false},
}

// command is one line: what to do, and with which options, by their long names.
type command struct {
	at      draft.Place
	verb    string
	has     map[string]bool
	value   map[string]string
	timeout []string // of --set
}

// read splits one line into a command. A line without words has no verb.
func read(at draft.Place, line string) (*command, error) {
	c := &command{at: at, has: map[string]bool{}, value: map[string]string{}}
	words := strings.Fields(line)
	for i, word := range words {
		if strings.HasPrefix(word, "#") {
			words = words[:i]
			break
		}
	}
	if len(words) > 0 && (words[0] == "ipvsadm" || strings.HasSuffix(words[0], "/ipvsadm")) {
		words = words[1:]
	}
	if strings.HasPrefix(line, "IP Virtual Server ") || strings.HasPrefix(line, "Prot LocalAddress") {
		return nil, c.fail("this is a list for people, of `ipvsadm -L`; import the output of `ipvsadm -S -n`")
	}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		var err error
		switch {
		case strings.HasPrefix(word, "--"):
			words, err = c.long(word[2:], words)
		case strings.HasPrefix(word, "-") && len(word) > 1:
			words, err = c.shorts(word[1:], words)
		case word == "(null)" && c.ofServer(): // what DPVS's ipvsadm before 1.9 prints for full NAT
			c.has["fullnat"] = true
		default:
			err = c.fail("%q is not an option of ipvsadm", word)
		}
		if err != nil {
			return nil, err
		}
	}
	if c.verb == "" && len(c.has) > 0 {
		return nil, c.fail("has no command; one of -A, -a is expected")
	}
	return c, nil
}

func (c *command) fail(format string, args ...any) error {
	return &draft.Error{Place: c.at, Text: fmt.Sprintf(format, args...)}
}

// long parses --name, --name=value or --name value.
func (c *command) long(name string, words []string) ([]string, error) {
	name, value, joined := strings.Cut(name, "=")
	for _, o := range options {
		if o.long != name {
			continue
		}
		if joined && o.follows == none {
			return nil, c.fail("--%s takes no value", name)
		}
		if joined {
			words = append([]string{value}, words...)
		}
		return c.record(o, words)
	}
	return nil, c.fail("--%s is not an option of ipvsadm", name)
}

// shorts parses a cluster such as At. The last option may have its value attached:
// t198.51.100.10:80.
func (c *command) shorts(cluster string, words []string) ([]string, error) {
	for cluster != "" {
		letter := cluster[0]
		cluster = cluster[1:]
		// For DPVS -b of a server is a mode; for ipvsadm it is flags of a service.
		if letter == 'b' && c.ofServer() {
			c.has["fullnat"] = true
			continue
		}
		o := byShort(letter)
		if o == nil {
			return nil, c.fail("-%c is not an option of ipvsadm", letter)
		}
		if o.follows != none && cluster != "" {
			words, cluster = append([]string{cluster}, words...), ""
		}
		var err error
		if words, err = c.record(*o, words); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// ofServer reports whether the command is about a server of a service.
func (c *command) ofServer() bool { return c.verb == "add-server" || c.verb == "edit-server" }

func byShort(letter byte) *option {
	for i := range options {
		if options[i].short == letter && letter != 0 {
			return &options[i]
		}
	}
	return nil
}

// record stores an option with its value and returns the words after it.
func (c *command) record(o option, words []string) ([]string, error) {
	if o.command {
		if c.verb != "" && c.verb != o.long {
			return nil, c.fail("has two commands, --%s and --%s", c.verb, o.long)
		}
		c.verb = o.long
	}
	c.has[o.long] = true
	switch {
	case o.follows == none, o.follows == number && (len(words) == 0 || !allDigits(words[0])):
		return words, nil
	case o.follows == numbers:
		if len(words) < 3 {
			return nil, c.fail("--%s takes three numbers of seconds: tcp, tcpfin, udp", o.long)
		}
		c.timeout = words[:3]
		return words[3:], nil
	case len(words) == 0:
		return nil, c.fail("--%s has no value", o.long)
	}
	c.value[o.long] = words[0]
	return words[1:], nil
}

func allDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
