package keepalived

import (
	"errors"
	"strings"
)

// token is a word, or a single brace.
type token struct {
	text  string
	brace bool
}

var errQuote = errors.New("a quote is not closed on its line")

// tokens splits a line, without its comment, into words and braces. Quotes of both kinds protect
// spaces, and a backslash protects the character after it or is an escape as in C.
func tokens(line string) ([]token, error) {
	var all []token
	var word strings.Builder
	inWord, quote := false, byte(0)
	end := func() {
		if inWord {
			all = append(all, token{text: word.String()})
		}
		word.Reset()
		inWord = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && i+1 < len(line):
			n := escape(&word, line[i+1:])
			i, inWord = i+n, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\r':
			end()
		// A reference to an undefined variable.
		case c == '$' && strings.HasPrefix(line[i:], "${"):
			n := strings.IndexByte(line[i:], '}') + 1
			if n == 0 {
				n = len(line) - i
			}
			word.WriteString(line[i : i+n])
			i, inWord = i+n-1, true
		case c == '{' || c == '}':
			end()
			all = append(all, token{string(c), true})
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	end()
	if quote != 0 {
		return nil, errQuote
	}
	return all, nil
}

// letters are the characters that escaped letters mean.
var letters = map[byte]byte{'a': 7, 'b': 8, 'E': 27, 'f': 12, 'n': '\n', 'r': '\r', 't': '\t', 'v': 11}

// escape appends the meaning of the text after a backslash and returns the number of bytes used, at
// least 1.
func escape(word *strings.Builder, text string) int {
	c := text[0]
	switch {
	case letters[c] != 0:
		word.WriteByte(letters[c])
		return 1
	case c == 'x':
		if v, n := digits(text[1:], 16, 2); n > 0 {
			word.WriteByte(v)
			return 1 + n
		}
	case c == 'c' && len(text) > 1:
		word.WriteByte(text[1] & 0x1f)
		return 2
	case c >= '0' && c <= '7':
		v, n := digits(text, 8, 3)
		word.WriteByte(v)
		return n
	}
	word.WriteByte(c)
	return 1
}

// digits parses at most so many digits of a base.
func digits(text string, base, most int) (value byte, n int) {
	v := 0
	for n < most && n < len(text) {
		d := strings.IndexByte("0123456789abcdef", text[n]|0x20)
		if text[n] >= '0' && text[n] <= '9' {
			d = int(text[n] - '0')
		}
		if d < 0 || d >= base {
			break
		}
		v = v*base + d
		n++
	}
	return byte(v), n
}

// uncomment removes a comment, from ! or # on, except in quotes or after a backslash.
func uncomment(line string) string {
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#' || c == '!':
			return line[:i]
		}
	}
	return line
}
