package keepalived

import (
	"path/filepath"
	"strings"

	"sluice/conf/draft"
)

// definition returns the name that a line defines, "$NAME=value", or "".
func definition(line string) string {
	line = strings.TrimLeft(line, " \t")
	if !strings.HasPrefix(line, "$") {
		return ""
	}
	name := identifier(line[1:])
	if name == "" || !strings.HasPrefix(line[1+len(name):], "=") {
		return ""
	}
	return name
}

// identifier returns the name at the start of a text: letters, digits and _, not beginning with a
// digit.
func identifier(text string) string {
	n := 0
	for n < len(text) {
		c := text[n]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (n == 0 || c < '0' || c > '9') {
			break
		}
		n++
	}
	return text[:n]
}

// trimLines removes spaces at both ends of a text and of each of its lines.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// expand replaces names of definitions by their values, which may have names, too. It stops after
// the first value of several lines, because these may redefine what comes later.
func (s *source) expand(at draft.Place, line string) (string, error) {
	for from, rounds := 0, 0; ; rounds++ {
		start, end, name := reference(line, from)
		if start < 0 {
			return line, nil
		}
		value, ok := s.vars[name]
		switch name {
		case "_PWD":
			value, ok = filepath.Dir(at.File), true
		case "_HASH":
			value, ok = "\\#", true
		case "_BANG":
			value, ok = "\\!", true
		}
		if !ok {
			from = end // unchanged, as in keepalived
			continue
		}
		line = line[:start] + value + line[end:]
		if rounds > maxNested*16 || len(line) > maxText {
			return "", fail(at, "$%s expands to too much: does a definition contain itself?", name)
		}
		if strings.Contains(value, "\n") {
			return line, nil
		}
		from = start
	}
}

// reference returns the first ${NAME}, or $NAME before a space or the end, from an offset on. start
// is -1 if there is none.
func reference(line string, from int) (start, end int, name string) {
	for i := from; i < len(line); i++ {
		if line[i] != '$' {
			continue
		}
		rest := line[i+1:]
		if braced, ok := strings.CutPrefix(rest, "{"); ok {
			if name := identifier(braced); name != "" && strings.HasPrefix(braced[len(name):], "}") {
				return i, i + 1 + 1 + len(name) + 1, name
			}
			continue
		}
		name := identifier(rest)
		if after := rest[len(name):]; name != "" && (after == "" || strings.ContainsAny(after[:1], " \t\n\"'}")) {
			return i, i + 1 + len(name), name
		}
	}
	return -1, -1, ""
}
