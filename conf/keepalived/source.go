package keepalived

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sluice/conf/draft"
)

// Files gives access to included files. Both methods get paths as in the file, joined with the
// directory of the including file.
type Files interface {
	Glob(pattern string) ([]string, error)
	Read(path string) ([]byte, error)
}

// Limits on the growth of a file by includes and definitions.
const (
	maxIncludes = 16       // files within files
	maxNested   = 64       // definitions within definitions
	maxText     = 16 << 20 // bytes, all included files and definitions together
)

// source converts files to tokens.
type source struct {
	files Files
	draft *draft.Draft
	tree  *builder
	vars  map[string]string // $definitions
	open  []string          // files being read, the innermost last
	text  int               // bytes read so far
}

func fail(at draft.Place, format string, args ...any) error {
	return &draft.Error{Place: at, Text: fmt.Sprintf(format, args...)}
}

// read reads the lines of a file.
func (s *source) read(name string, data []byte) error {
	s.open = append(s.open, name)
	defer func() { s.open = s.open[:len(s.open)-1] }()
	number, pending := 0, ""
	start := draft.Place{File: name, Line: 1}
	for line := range strings.Lines(string(data)) {
		number++
		if pending == "" {
			start.Line = number
		}
		line = strings.TrimRight(line, "\r\n")
		if body, more := strings.CutSuffix(strings.TrimRight(line, " \t"), "\\"); more && (pending != "" || definition(line) != "") {
			pending += body + "\n"
			continue
		}
		pending += line
		err := s.line(start, pending, 0)
		pending = ""
		if err != nil {
			return err
		}
	}
	return s.line(start, pending, 0)
}

// line processes one line, or several that a definition expands to.
func (s *source) line(at draft.Place, line string, depth int) error {
	if err := s.grow(at, len(line)+1); err != nil {
		return err
	}
	if depth > maxNested {
		return fail(at, "definitions are nested more than %d deep: does one contain itself?", maxNested)
	}
	if name := definition(line); name != "" {
		_, value, _ := strings.Cut(line, "=")
		s.vars[name] = strings.TrimPrefix(trimLines(value), "\n")
		return nil
	}
	line = uncomment(line)
	if condition, rest, ok := conditional(line); ok {
		return s.words(at, rest, condition)
	}
	expanded, err := s.expand(at, line)
	if err == nil {
		err = s.grow(at, max(0, len(expanded)-len(line)))
	}
	switch {
	case err != nil:
		return err
	case strings.Contains(expanded, "\n"):
		for part := range strings.SplitSeq(expanded, "\n") {
			if err := s.line(at, part, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return s.words(at, expanded, "")
}

// grow counts the bytes of the file and of expanded definitions.
func (s *source) grow(at draft.Place, bytes int) error {
	if s.text += bytes; s.text > maxText {
		return fail(at, "the file, with its includes and definitions, has more than %d MiB", maxText>>20)
	}
	return nil
}

// words passes the words of a line to the tree, unless they include a file. With a condition, all
// that they begin is not carried over.
func (s *source) words(at draft.Place, line, condition string) error {
	if strings.HasPrefix(strings.TrimSpace(line), "~") {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "(")
		s.draft.Note(at, "%s: sequences and lists are not expanded: write the lines in full and import again", word)
		return nil
	}
	all, err := tokens(line)
	if err != nil {
		return fail(at, "%s", err)
	}
	if len(all) == 2 && isInclude(all[0].text) && !all[1].brace && condition == "" {
		return s.include(at, all[1].text)
	}
	return s.tree.add(at, all, condition)
}

func isInclude(word string) bool {
	return slices.Contains([]string{"include", "includer", "includem", "includew", "includeb", "includea"}, word)
}

// include reads the files that match a pattern, relative to the current file.
func (s *source) include(at draft.Place, pattern string) error {
	if s.files == nil {
		s.draft.Note(at, "include %s: files cannot be included here", pattern)
		return nil
	}
	if len(s.open) > maxIncludes {
		return fail(at, "files are included more than %d deep: does one include itself?", maxIncludes)
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(at.File), pattern)
	}
	names, err := s.files.Glob(pattern)
	if err != nil {
		return fail(at, "include %s: %v", pattern, err)
	}
	if len(names) == 0 {
		s.draft.Note(at, "include %s: no such file", pattern)
	}
	for _, name := range names {
		data, err := s.files.Read(name)
		if err != nil {
			return fail(at, "include %s: %v", name, err)
		}
		if err := s.read(name, data); err != nil {
			return err
		}
	}
	return nil
}

// conditional splits a line that applies only to some machines: "@main priority 100".
func conditional(line string) (condition, rest string, ok bool) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "@") {
		return "", "", false
	}
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		end = len(line)
	}
	return line[:end], line[end:], true
}
