package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// packageComments requires a comment above the package clause of one file of every package.
func packageComments(repo *Repo) (broken []string) {
	commented := map[string]bool{}
	for _, file := range repo.Files {
		commented[file.Dir()] = commented[file.Dir()] || file.Syntax.Doc != nil
	}
	for dir, ok := range commented {
		if !ok {
			broken = append(broken, dir+" has no package comment: write one above the package clause of doc.go or of the main file")
		}
	}
	slices.Sort(broken)
	return broken
}

const (
	commentColumns = 100 // the widest line that has a comment
	tabColumns     = 4
)

// commentWidth bounds the lines of Go files that have a comment. Directives and generated files are
// exempt.
func commentWidth(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		if file.Generated {
			continue
		}
		lines := strings.Split(string(file.Source), "\n")
		checked := 0 // the last line that was measured: two comments may share one
		for _, group := range file.Syntax.Comments {
			for _, comment := range group.List {
				if strings.HasPrefix(comment.Text, "//go:") {
					continue
				}
				first, last := repo.Fset.Position(comment.Pos()).Line, repo.Fset.Position(comment.End()).Line
				for line := max(first, checked+1); line <= last; line++ {
					checked = line
					if width := columns(lines[line-1]); width > commentColumns {
						broken = append(broken, fmt.Sprintf("%s:%d: a line with a comment has %d columns, more than %d: wrap the comment, "+
							"or put it above its line", file.Path, line, width, commentColumns))
					}
				}
			}
		}
	}
	return broken
}

// columns returns the width of a line on a screen.
func columns(line string) (width int) {
	for _, r := range line {
		if r == '\t' {
			width += tabColumns - width%tabColumns
		} else {
			width++
		}
	}
	return width
}

// avoided are words of an older English, each with what to write instead.
var avoided = []struct{ word, instead string }{
	{"whose", "that has, of which, with"},
	{"nobody", "no one, or name who"},
	{"somebody", "name who"},
	{"whoever", "who, or name who"},
	{"anew", "again"},
	{"lest", "so that ... not"},
}

var avoidedWords = func() *regexp.Regexp {
	var all []string
	for _, avoid := range avoided {
		all = append(all, avoid.word)
	}
	return regexp.MustCompile(`(?i)\b(` + strings.Join(all, "|") + `)\b`)
}()

// prose are the extensions of files that people read.
var prose = []string{".go", ".c", ".h", ".md", ".sh", ".js", ".html", ".css", ".toml", ".yml", ".yaml"}

// words keeps the avoided words out of code, comments and manuals. This package has to name them.
func words(repo *Repo) (broken []string) {
	return everyFile(repo, func(name string, text []byte) (broken []string) {
		if within(name, "tools/tidy") || path.Base(name) != "Makefile" && !slices.Contains(prose, path.Ext(name)) {
			return nil
		}
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			for _, found := range avoidedWords.FindAllString(line, -1) {
				at := slices.IndexFunc(avoided, func(avoid struct{ word, instead string }) bool { return strings.EqualFold(avoid.word, found) })
				broken = append(broken, fmt.Sprintf("%s:%d: the word %q is avoided here: write %s", name, number, found, avoided[at].instead))
			}
		}
		return broken
	})
}

// retired lists identifiers that gave way to terms of the field; ARCHITECTURE.md has the terms.
// They must not be used as a Go identifier, or as the name of a directory or, without extension, a
// file.
var retired = strings.Fields(`
	Eyes Glance Milestone Rehearsal Rehearse Sight
	astray board clinic crowd depart door doors explaining express glance heard judge judged
	judgement lane lanes lead lent narrate occupant orders parted passRound passage patience
	patients poke rehearse sick sight site stock takeBody takePath takesPath tapping travel wards
	woken
`)

// identifiers keeps the retired identifiers out of Go code and of the names of files.
func identifiers(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		if file.Generated {
			continue
		}
		ast.Inspect(file.Syntax, func(n ast.Node) bool {
			if name, ok := n.(*ast.Ident); ok && slices.Contains(retired, name.Name) {
				broken = append(broken, retiredAt(repo.Fset.Position(name.Pos()), name.Name))
			}
			return true
		})
	}
	seen := map[string]bool{}
	return append(broken, everyFile(repo, func(name string, _ []byte) (broken []string) {
		for ; name != "." && !seen[name]; name = path.Dir(name) {
			seen[name] = true
			base, _, _ := strings.Cut(path.Base(name), ".")
			if base = strings.TrimSuffix(base, "_test"); slices.Contains(retired, base) {
				broken = append(broken, fmt.Sprintf("%s: %s is a retired name: ARCHITECTURE.md has the terms", name, base))
			}
		}
		return broken
	})...)
}

func retiredAt(position token.Position, name string) string {
	return fmt.Sprintf("%s:%d: %s is a retired identifier: ARCHITECTURE.md has the terms", position.Filename, position.Line, name)
}

// everyFile calls check with every file of the repository except test data and what git ignores.
func everyFile(repo *Repo, check func(name string, text []byte) []string) (broken []string) {
	_ = fs.WalkDir(repo.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			broken = append(broken, err.Error())
		case entry.IsDir() && (slices.Contains(ignored, name) || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.Type().IsRegular():
			text, err := fs.ReadFile(repo.FS, name)
			if err != nil {
				broken = append(broken, err.Error())
			}
			broken = append(broken, check(name, text)...)
		}
		return nil
	})
	return broken
}
