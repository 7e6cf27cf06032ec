package conf

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// place is the position of a value in the file. Places form the same tree as the values: a table
// has keys, an array has items, and the index of a file is the place of its root table.
//
//	[[service]]            root.keys["service"].items[0]
//	source = ["10.0.0.2"]  ... .keys["source"], ... .keys["source"].items[0]
type place struct {
	parent *place
	name   string // key under parent, unless isItem
	isItem bool   // of an array
	number int    // position of an item
	label  string // stands for number in messages: what the item is called
	line   int    // from 1
	keys   map[string]*place
	items  []*place
}

// path returns the key as messages show it. The root has none.
func (p *place) path() string {
	switch {
	case p.parent == nil:
		return ""
	case p.isItem && p.label != "":
		return fmt.Sprintf("%s[%q]", p.parent.path(), p.label)
	case p.isItem:
		return fmt.Sprintf("%s[%d]", p.parent.path(), p.number)
	case p.parent.parent == nil:
		return keyText(p.name)
	}
	return p.parent.path() + "." + keyText(p.name)
}

// kind returns the key without what tells elements of an array apart.
func (p *place) kind() string {
	switch {
	case p.parent == nil:
		return ""
	case p.isItem:
		return p.parent.kind() + "[]"
	}
	return p.parent.kind() + "." + p.name
}

// keyText quotes a key where TOML requires it, and shortens one that is too long for a screen.
func keyText(name string) string {
	if r := []rune(name); len(r) > 64 {
		name = string(r[:64]) + "..."
	}
	return toml.Key{name}.String()
}

// key returns the place of a key. The place of a missing key is that of its table.
func (p *place) key(name string) *place {
	if k := p.keys[name]; k != nil {
		return k
	}
	return &place{parent: p, name: name, line: p.line}
}

// item returns the place of an element of an array; a missing one is at the array's place.
func (p *place) item(i int) *place {
	if i < len(p.items) {
		return p.items[i]
	}
	return &place{parent: p, isItem: true, number: i, line: p.line}
}

// addKey adds a key once: [a.b] and [a.c] are both in the a that came first.
func (p *place) addKey(name string, line int) *place {
	if k := p.keys[name]; k != nil {
		return k
	}
	if p.keys == nil {
		p.keys = make(map[string]*place, 4)
	}
	k := &place{parent: p, name: name, line: line}
	p.keys[name] = k
	return k
}

func (p *place) addItem(line int) *place {
	item := &place{parent: p, isItem: true, number: len(p.items), line: line}
	p.items = append(p.items, item)
	return item
}

// open returns the table that further keys belong to: of an array of tables the last one.
func (p *place) open() *place {
	for len(p.items) > 0 {
		p = p.items[len(p.items)-1]
	}
	return p
}

// maxDepth limits tables within tables and arrays within arrays. The deepest key has a depth of 4;
// the toml library recurses without a limit.
const maxDepth = 32

// scanner reads TOML that is valid, or valid up to the point where it stops. The toml library reads
// the same text afterwards and reports errors in the rest.
type scanner struct {
	text   string
	at     int // offset of the next byte
	line   int // line of the next byte
	depth  int // of the value being read
	broken bool
	deep   int // line at which maxDepth was exceeded; 0: nowhere
}

// index returns the places of all values in text. deepLine is 0, or the line of a nesting that is
// too deep to decode.
func index(text string) (root *place, deepLine int) {
	root = &place{line: 1}
	s := &scanner{text: strings.TrimPrefix(text, "\ufeff"), line: 1}
	table := root
	for s.skip(" \t\r\n"); s.more(); s.skip(" \t\r\n") {
		if s.peek() == '[' {
			table = s.header(root)
		} else {
			s.pair(table)
		}
	}
	return root, s.deep
}

func (s *scanner) more() bool { return !s.broken && s.at < len(s.text) }

// peek returns the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// advance skips n bytes and counts their lines.
func (s *scanner) advance(n int) {
	n = min(n, len(s.text)-s.at)
	s.line += strings.Count(s.text[s.at:s.at+n], "\n")
	s.at += n
}

// expect skips one byte, which must be c.
func (s *scanner) expect(c byte) {
	if s.peek() != c {
		s.broken = true
		return
	}
	s.advance(1)
}

// skip skips all bytes of set, and comments if set has line ends: comments end nowhere else.
func (s *scanner) skip(set string) {
	comments := strings.Contains(set, "\n")
	for s.at < len(s.text) {
		c := s.text[s.at]
		switch {
		case strings.IndexByte(set, c) >= 0:
			s.advance(1)
		case c == '#' && comments:
			s.advance(s.until("\n"))
		default:
			return
		}
	}
}

// until returns the number of bytes before the first byte of set.
func (s *scanner) until(set string) int {
	if n := strings.IndexAny(s.text[s.at:], set); n >= 0 {
		return n
	}
	return len(s.text) - s.at
}

// header reads [a.b] or [[a.b]] and returns the table that it opens.
func (s *scanner) header(root *place) *place {
	line := s.line
	s.expect('[')
	array := s.peek() == '['
	if array {
		s.expect('[')
	}
	p := root
	for _, name := range s.names() {
		p = p.open().addKey(name, line)
	}
	s.expect(']')
	if array {
		s.expect(']')
		return p.addItem(line)
	}
	p.line = line
	return p
}

// pair reads a.b = value into table.
func (s *scanner) pair(table *place) {
	line := s.line
	p := table
	for _, name := range s.names() {
		p = p.open().addKey(name, line)
	}
	s.expect('=')
	s.value(p)
}

// names reads the parts of a key.
func (s *scanner) names() []string {
	var names []string
	for !s.broken {
		s.skip(" \t")
		names = append(names, s.name())
		s.skip(" \t")
		if s.peek() != '.' {
			break
		}
		s.advance(1)
		if len(names) == maxDepth {
			s.tooDeep()
		}
	}
	return names
}

// name reads one part of a key. The toml library decodes the escapes of a quoted one.
func (s *scanner) name() string {
	start := s.at
	if c := s.peek(); c == '"' || c == '\'' {
		s.quoted()
		var v struct{ K string }
		if _, err := toml.Decode("K="+s.text[start:s.at], &v); err != nil {
			s.broken = true
		}
		return v.K
	}
	s.advance(s.until("=.]\"' \t\r\n#[{},"))
	if s.at == start {
		s.broken = true
	}
	return s.text[start:s.at]
}

// value reads a value, after = or in an array, and adds what is inside it under p.
func (s *scanner) value(p *place) {
	s.depth++
	defer func() { s.depth-- }()
	if s.depth > maxDepth {
		s.tooDeep()
		return
	}
	s.skip(" \t")
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.list(']', func() { s.value(p.addItem(s.line)) })
	case '{':
		s.list('}', func() { s.pair(p) })
	default:
		s.advance(s.until(",]}#\r\n"))
	}
}

// list reads the elements of an array or an inline table, and what may be between them.
func (s *scanner) list(end byte, element func()) {
	s.advance(1)
	for {
		s.skip(" \t\r\n,")
		if s.peek() == end {
			s.advance(1)
			return
		}
		if !s.more() {
			s.broken = true
			return
		}
		start := s.at
		element()
		if s.at == start { // not a value
			s.broken = true
		}
	}
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.at : s.at+1]
	triple := strings.Repeat(quote, 3)
	if !strings.HasPrefix(s.text[s.at:], triple) {
		s.advance(1)
		s.closing(quote, quote+"\n")
		return
	}
	s.advance(3)
	s.closing(triple, quote)
	for range 2 { // a string may end in two quotes before the closing three
		if !s.broken && s.peek() == quote[0] {
			s.advance(1)
		}
	}
}

// closing passes everything up to and including end. Only bytes of stops, and escapes, are looked
// at.
func (s *scanner) closing(end, stops string) {
	escapes := end[0] == '"'
	if escapes {
		stops += `\`
	}
	for s.at < len(s.text) {
		s.advance(s.until(stops))
		switch {
		case strings.HasPrefix(s.text[s.at:], end):
			s.advance(len(end))
			return
		case s.peek() == '\n': // a string of one line without its end
			s.broken = true
			return
		case s.peek() == '\\':
			s.advance(2)
		default:
			s.advance(1)
		}
	}
	s.broken = true
}

func (s *scanner) tooDeep() {
	s.broken = true
	if s.deep == 0 {
		s.deep = s.line
	}
}

// lineAt returns the line of the byte at an offset.
func lineAt(text string, offset int) int { return 1 + strings.Count(text[:offset], "\n") }

// lineCount returns the number of lines: a final line end does not start another one.
func lineCount(text string) int {
	return max(1, strings.Count(strings.TrimSuffix(text, "\n"), "\n")+1)
}

// depthText is the error for a file that is nested too deeply.
var depthText = "nested more than " + strconv.Itoa(maxDepth) + " levels deep; no key is nested more than 4 levels deep"
