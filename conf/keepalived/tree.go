package keepalived

import (
	"strings"

	"sluice/conf/draft"
)

// node is one directive: its words and the contents of its braces.
type node struct {
	at        draft.Place
	words     []string
	block     []*node
	last      draft.Place // of the closing brace
	hasBlock  bool
	condition string // "@main": on some machines only
}

// name returns the first word, value the second or "".
func (n *node) name() string { return n.words[0] }

func (n *node) value() string {
	if len(n.words) < 2 {
		return ""
	}
	return n.words[1]
}

// text returns the directive as in the file, shortened for a note.
func (n *node) text() string {
	text := []rune(strings.Join(n.words, " "))
	if len(text) > 80 {
		return string(text[:77]) + "..."
	}
	return string(text)
}

// maxDepth limits blocks within blocks. The deepest of keepalived is 4.
const maxDepth = 32

// maxNodes limits the directives of all files together.
const maxNodes = 1_000_000

// builder builds the tree from tokens.
type builder struct {
	root  node
	nodes int     // so far
	stack []*node // blocks that are open, the root first
}

func newBuilder() *builder {
	b := &builder{}
	b.stack = []*node{&b.root}
	return b
}

// add adds the tokens of a line. A directive ends with the line or at a brace; an opening brace may
// be on its own line below its directive.
func (b *builder) add(at draft.Place, all []token, condition string) error {
	var current *node
	for _, t := range all {
		top := b.stack[len(b.stack)-1]
		switch {
		case !t.brace && current == nil:
			if b.nodes++; b.nodes > maxNodes {
				return fail(at, "the file has more than %d directives", maxNodes)
			}
			current = &node{at: at, words: []string{t.text}, condition: condition}
			top.block = append(top.block, current)
		case !t.brace:
			current.words = append(current.words, t.text)
		case t.text == "{":
			if current == nil && len(top.block) > 0 {
				current = top.block[len(top.block)-1]
			}
			if current == nil || current.hasBlock {
				return fail(at, "{ without a directive")
			}
			if len(b.stack) > maxDepth {
				return fail(at, "blocks are nested more than %d deep", maxDepth)
			}
			current.hasBlock = true
			b.stack = append(b.stack, current)
			current = nil
		default:
			if len(b.stack) == 1 {
				return fail(at, "} without a {: a { is missing before, or this } is one too many")
			}
			top.last = at
			b.stack = b.stack[:len(b.stack)-1]
			current = nil
		}
	}
	return nil
}

// end returns the directives of the file.
func (b *builder) end() ([]*node, error) {
	if n := len(b.stack); n > 1 {
		open := b.stack[n-1]
		return nil, fail(open.at, "%s has no closing }", open.text())
	}
	return b.root.block, nil
}
