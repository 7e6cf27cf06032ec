package filter

import (
	"fmt"
	"strings"
)

// constants are tcpdump's names for bits and offsets.
var constants = map[string]int{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32,
	"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1,
}

// relations compare a field with a value.
var relations = map[string]func(a, b int) bool{
	"=":  func(a, b int) bool { return a == b },
	"==": func(a, b int) bool { return a == b },
	"!=": func(a, b int) bool { return a != b },
	"<":  func(a, b int) bool { return a < b },
	">":  func(a, b int) bool { return a > b },
	"<=": func(a, b int) bool { return a <= b },
	">=": func(a, b int) bool { return a >= b },
}

// bytes parses what follows the name of a protocol: [OFFSET:SIZE] & MASK RELATION VALUE, where mask
// and size are optional. As in tcpdump, a packet without such bytes does not match.
func (p *parser) bytes(proto string) (test, error) {
	header, ok := headers[proto]
	if !ok {
		return nil, fmt.Errorf("[OFFSET] cannot follow %q", proto)
	}
	p.next() // the bracket
	offset, err := p.constant()
	size := 1
	if err == nil && p.accept(":") != "" {
		if size, err = p.constant(); err == nil && size != 1 && size != 2 && size != 4 {
			err = fmt.Errorf("the size of a field must be 1, 2 or 4 bytes, not %d", size)
		}
	}
	if err == nil && p.accept("]") == "" {
		err = fmt.Errorf("missing ]")
	}
	mask := 1<<32 - 1
	if err == nil && p.accept("&") != "" {
		mask, err = p.sum()
	}
	if err != nil {
		return nil, err
	}
	sign := p.next()
	relation, ok := relations[sign]
	if !ok {
		return nil, fmt.Errorf("%q must be one of = != < > <= >=", sign)
	}
	value, err := p.sum()
	is, known := protocols[proto]
	return func(v *view) bool {
		h := header(v)
		if known && !is(v) || len(h) < offset+size {
			return false
		}
		field := 0
		for _, b := range h[offset : offset+size] {
			field = field<<8 | int(b)
		}
		return relation(field&mask, value)
	}, err
}

// sum parses constants with | between them, with or without parentheses.
func (p *parser) sum() (int, error) {
	open := p.accept("(") != ""
	value, err := p.constant()
	for err == nil && p.accept("|") != "" {
		var more int
		more, err = p.constant()
		value |= more
	}
	if err == nil && open && p.accept(")") == "" {
		err = fmt.Errorf("missing )")
	}
	return value, err
}

func (p *parser) constant() (int, error) {
	word := p.next()
	if n, ok := constants[strings.ToLower(word)]; ok {
		return n, nil
	}
	return number(word, 1<<32-1)
}
