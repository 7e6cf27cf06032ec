package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// scan splits a text into words and operators. A colon is an operator only between brackets, since
// IPv6 addresses have colons.
func scan(text string) (tokens []string) {
	inBrackets := false
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n':
			i++
			continue
		case len(text) > i+1 && slices.Contains([]string{"&&", "||", "!=", "==", "<=", ">="}, text[i:i+2]):
			tokens = append(tokens, text[i:i+2])
			i += 2
			continue
		case strings.IndexByte("()!&|=<>[]", c) >= 0 || c == ':' && inBrackets:
			tokens = append(tokens, text[i:i+1])
			i++
			switch c {
			case '[':
				inBrackets = true
			case ']':
				inBrackets = false
			}
			continue
		}
		end := i + 1 // every step takes at least one byte
		for end < len(text) && strings.IndexByte(" \t\n()!&|=<>[]", text[end]) < 0 && (!inBrackets || text[end] != ':') {
			end++
		}
		tokens = append(tokens, strings.ToLower(text[i:end]))
		i = end
	}
	return tokens
}

// parser reads tokens by recursive descent.
type parser struct {
	tokens []string
	last   qualifiers // of the last primitive with a value, for a bare value
}

// qualifiers are the words in front of a value.
type qualifiers struct{ proto, dir, kind string }

// deepest limits the nesting of parentheses and negations.
const deepest = 64

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	t := p.peek()
	if t != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept consumes the next token if it is one of words, and returns it, else "".
func (p *parser) accept(words ...string) string {
	if t := p.peek(); t != "" && slices.Contains(words, t) {
		return p.next()
	}
	return ""
}

func (p *parser) expression(depth int) (test, error) {
	left, err := p.term(depth)
	for err == nil {
		op := p.accept("and", "&&", "or", "||")
		if op == "" {
			return left, nil
		}
		a := left
		var b test
		if b, err = p.term(depth); op == "and" || op == "&&" {
			left = func(v *view) bool { return a(v) && b(v) }
		} else {
			left = func(v *view) bool { return a(v) || b(v) }
		}
	}
	return nil, err
}

func (p *parser) term(depth int) (test, error) {
	switch {
	case depth > deepest:
		return nil, fmt.Errorf("parentheses are nested more than %d deep", deepest)
	case p.accept("not", "!") != "":
		t, err := p.term(depth + 1)
		return func(v *view) bool { return !t(v) }, err
	case p.accept("(") != "":
		t, err := p.expression(depth + 1)
		if err == nil && p.accept(")") == "" {
			err = fmt.Errorf("missing )")
		}
		return t, err
	}
	return p.primitive()
}

// primitive parses one condition.
func (p *parser) primitive() (test, error) {
	switch {
	case p.accept("vlan") != "":
		return p.vlanID()
	case p.accept("greater") != "":
		n, err := number(p.next(), 1<<16)
		return func(v *view) bool { return v.length >= n }, err
	case p.accept("less") != "":
		n, err := number(p.next(), 1<<16)
		return func(v *view) bool { return v.length <= n }, err
	}
	if len(p.tokens) > 1 && p.tokens[1] == "[" {
		return p.bytes(p.next())
	}
	q := qualifiers{proto: p.accept("ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6")}
	q.dir = p.accept("src", "dst")
	q.kind = p.accept("host", "net", "port", "portrange", "proto")
	if p.ends() {
		if q.dir != "" || q.kind != "" || q.proto == "" {
			return nil, fmt.Errorf("missing operand %s", p.where())
		}
		return protocols[q.proto], nil
	}
	if q == (qualifiers{}) {
		q = p.last
	}
	if q.kind == "" {
		q.kind = "host"
	}
	p.last = q
	value := p.next()
	t, err := q.test(value)
	if err != nil || q.proto == "" || q.kind == "proto" {
		return t, err
	}
	proto := protocols[q.proto]
	return func(v *view) bool { return proto(v) && t(v) }, nil
}

// ends reports whether no value follows.
func (p *parser) ends() bool {
	return slices.Contains([]string{"", "and", "&&", "or", "||", ")"}, p.peek())
}

func (p *parser) where() string {
	if p.peek() == "" {
		return "at the end"
	}
	return fmt.Sprintf("before %q", p.peek())
}

func (p *parser) vlanID() (test, error) {
	if p.ends() {
		return func(v *view) bool { return v.tagged }, nil
	}
	id, err := number(p.next(), 4095)
	return func(v *view) bool { return v.tagged && int(v.vlan) == id }, err
}

// test returns the condition that the qualifiers put on a value.
func (q qualifiers) test(value string) (test, error) {
	switch q.kind {
	case "host":
		a, err := netip.ParseAddr(value)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address (names are not looked up)", value)
		}
		want := packet.AddrFrom(a)
		return q.ends(func(got packet.Addr, _ uint16) bool { return got == want }, false), nil
	case "net":
		net, err := netip.ParsePrefix(value)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network like 10.0.0.0/8", value)
		}
		return q.ends(func(got packet.Addr, _ uint16) bool { return net.Contains(got.Netip()) }, false), nil
	case "port", "portrange":
		if q.proto != "" && q.proto != "tcp" && q.proto != "udp" && q.proto != "ip" && q.proto != "ip6" {
			return nil, fmt.Errorf("%s has no ports", q.proto)
		}
		ports, err := service.ParsePorts(value)
		if err != nil || q.kind == "port" && !ports.Single() {
			return nil, fmt.Errorf("%q is not a %s (names are not looked up)", value, q.kind)
		}
		return q.ends(func(_ packet.Addr, got uint16) bool { return ports.Contains(got) }, true), nil
	}
	return q.protoNumber(value)
}

// ends tests the source, the destination, or either.
func (q qualifiers) ends(is func(packet.Addr, uint16) bool, ports bool) test {
	there := func(v *view) bool { return v.ip != nil && (v.ports || !ports) }
	switch q.dir {
	case "src":
		return func(v *view) bool { return there(v) && is(v.src, v.sport) }
	case "dst":
		return func(v *view) bool { return there(v) && is(v.dst, v.dport) }
	}
	return func(v *view) bool { return there(v) && (is(v.src, v.sport) || is(v.dst, v.dport)) }
}

func (q qualifiers) protoNumber(value string) (test, error) {
	family, ok := protocols[q.proto]
	if !ok || q.proto != "ip" && q.proto != "ip6" || q.dir != "" {
		return nil, fmt.Errorf("proto must follow ip or ip6")
	}
	n, err := number(strings.TrimPrefix(value, `\`), 255)
	for name, known := range map[string]int{"icmp": packet.ICMP, "tcp": packet.TCP, "udp": packet.UDP, "ipip": packet.IPIP, "icmp6": packet.ICMPv6} {
		if strings.TrimPrefix(value, `\`) == name {
			n, err = known, nil
		}
	}
	return func(v *view) bool { return family(v) && int(v.proto) == n }, err
}

func number(text string, most int) (int, error) {
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || int(n) > most {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", text, most)
	}
	return int(n), nil
}
