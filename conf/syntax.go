package conf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// failSyntax reports a syntax error of the toml library: that the text is in another format, what
// to write instead of a value without quotes, or else what the library says.
func (r *report) failSyntax(text string, err error) {
	var at toml.ParseError
	if !errors.As(err, &at) {
		r.failLine(1, "", err.Error())
		return
	}
	p := Problem{File: r.file, Key: at.LastKey, Text: strings.TrimSuffix(at.Message, ".")}
	var line string
	p.Line, p.Column, line = locate(text, at.Position)
	if isUnexpected(at.Message) {
		if format := otherFormat(text, r.file); format != "" {
			p.Key, p.Text = "", format
		} else if key, hint := unquoted(line, p.Column); hint != "" {
			p.Key, p.Text = key, hint
		}
	}
	p.Text = "not valid TOML: " + p.Text
	r.errors.add("", p)
}

// isUnexpected reports whether an error of the library is about something that it did not expect at
// its place: not about a string, a number or a second definition.
func isUnexpected(message string) bool {
	return slices.ContainsFunc([]string{"expected ", "Invalid float", "Invalid integer", "invalid datetime", "floats must"},
		func(start string) bool { return strings.HasPrefix(message, start) })
}

// locate returns the line and column of a position, and the text of the line. For an unexpected
// end the library's line may be just outside the file; the column is then 0.
func locate(text string, at toml.Position) (line, column int, content string) {
	text = strings.TrimPrefix(text, "\ufeff")
	line = min(max(1, at.Line), lineCount(text))
	start := 0
	for range line - 1 {
		start += strings.IndexByte(text[start:], '\n') + 1
	}
	content, _, _ = strings.Cut(text[start:], "\n")
	if offset := at.Start - start; line == at.Line && offset >= 0 && offset <= len(content) {
		column = 1 + utf8.RuneCountInString(content[:offset])
	}
	return line, column, strings.TrimSuffix(content, "\r")
}

// Forms of other formats. The comments and empty lines before the first line are not looked at.
var (
	jsonStart      = regexp.MustCompile(`^(\{|\[\s*\{)`)
	yamlLine       = regexp.MustCompile(`^(---|- .*|["']?[\w.-]+["']?:(\s.*)?)$`)
	keepalivedLine = regexp.MustCompile(`(?m)^\s*(global_defs|virtual_server|virtual_server_group|local_address_group|vrrp_\w+)\b[^=\n]*$`)
	ipvsadmLine    = regexp.MustCompile(`(?m)^\s*(\S*ipvsadm\s+)?(-A|-a|--add-service|--add-server)\s`)
)

// otherFormat returns what to do if the text is in a format that operators confuse with Sluice's;
// "" if it is not.
func otherFormat(text, file string) string {
	const ours = `; a configuration of Sluice is TOML, with lines such as [[service]] and address = "198.51.100.10"`
	first := ""
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		if first = strings.TrimSpace(line); first != "" && !strings.HasPrefix(first, "#") {
			break
		}
	}
	switch {
	case keepalivedLine.MatchString(text):
		return "this looks like keepalived.conf: sluice import keepalived " + file
	case ipvsadmLine.MatchString(text):
		return "this looks like the output of ipvsadm -S: sluice import ipvsadm " + file
	case jsonStart.MatchString(strings.TrimSpace(text)):
		return "this looks like JSON" + ours
	case yamlLine.MatchString(first):
		return "this looks like YAML" + ours
	}
	return ""
}

// value matches a line with one value, without quotes and comment.
var value = regexp.MustCompile(`^\s*([\w.-]+)\s*([=:])\s*([^"'#\[\]{}]*?)\s*(#.*)?$`)

// unquoted returns the key and what to write, if the error at a column of a line is a value without
// quotes; else "".
func unquoted(line string, column int) (key, hint string) {
	if m := value.FindStringSubmatch(line); m != nil {
		key, word := m[1], m[3]
		switch {
		case word == "":
			return "", ""
		case m[2] == ":" && scalar.MatchString(word):
			return key, fmt.Sprintf("write = instead of the colon: %s = %s", key, word)
		case m[2] == ":":
			return key, fmt.Sprintf("write = instead of the colon: %s = %s", key, quoted(word))
		case !slices.ContainsFunc(strings.Fields(word), func(w string) bool { return !scalar.MatchString(w) }):
			return "", "" // numbers need no quotes
		case strings.Contains(word, ","):
			return key, "a list is in brackets, its strings are in quotes: [\"a\", \"b\"] or [1, 2]"
		}
		return key, fmt.Sprintf("%s is not in quotes; write %s = %s", clipWord(word), key, quoted(word))
	}
	word := wordAt(line, column)
	if word == "" || scalar.MatchString(word) {
		return "", ""
	}
	return "", fmt.Sprintf("%s is not in quotes; write %s", clipWord(word), quoted(word))
}

// scalar matches words that are not better in quotes: TOML's numbers and words, and numbers with
// leading zeros.
var scalar = regexp.MustCompile(`^([+-]?\d[\d_]*(\.\d+)?|true|false|inf|nan)$`)

// wordAt returns the word around a column, up to quotes, brackets, commas and spaces on both sides.
func wordAt(line string, column int) string {
	const ends = " \t\r\"'[]{},=#"
	letters := []rune(line)
	at := min(column-1, len(letters))
	if at < 0 {
		return ""
	}
	from, to := at, at
	for from > 0 && !strings.ContainsRune(ends, letters[from-1]) {
		from--
	}
	for to < len(letters) && !strings.ContainsRune(ends, letters[to]) {
		to++
	}
	// A quote on either side means that the word is what is left of a string.
	if from > 0 && strings.ContainsRune(`"'`, letters[from-1]) || to < len(letters) && strings.ContainsRune(`"'`, letters[to]) {
		return ""
	}
	return string(letters[from:to])
}

// quoted returns a word in quotes; typographic ones that it has are removed.
func quoted(word string) string {
	return strconv.Quote(strings.Trim(clipWord(word), "“”„‘’«»"))
}

// clipWord shortens a word for a message.
func clipWord(word string) string {
	if r := []rune(word); len(r) > 64 {
		return string(r[:64]) + "..."
	}
	return word
}
