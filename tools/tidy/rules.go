package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Rule is one rule. Check returns one sentence for each place that breaks it.
type Rule struct {
	Name  string
	Check func(*Repo) []string
}

// Rules lists all rules.
var Rules = []Rule{
	{"top level", topLevel},
	{"imports", imports},
	{"lattice entries", latticeEntries},
	{"unsafe", unsafeFiles},
	{"function length", functionLength},
	{"sleep in tests", sleepInTests},
	{"gofmt", gofmt},
	{"libraries", libraries},
	{"examples", examples},
	{"make targets", makeTargets},
	{"links", func(repo *Repo) []string { return Links(repo.FS) }},
	{"manual", manual},
	{"architecture", architecture},
	{"package comments", packageComments},
	{"comment width", commentWidth},
	{"words", words},
	{"identifiers", identifiers},
}

// ignored lists the directories that builds write to and git ignores.
var ignored = []string{".git", "bin", "bench/out"}

// topDirs and topFiles list all that the top level may hold.
var (
	topDirs  = []string{".ci", "bench", "cmd", "conf", "engine", "pipeline", "rings", "tools"}
	topFiles = []string{".gitignore", ".golangci.yml", "LICENSE", "Makefile", "ARCHITECTURE.md", "CHANGELOG.md", "README.md", "go.mod", "go.sum"}
)

func topLevel(repo *Repo) (broken []string) {
	entries, err := fs.ReadDir(repo.FS, ".")
	if err != nil {
		return []string{err.Error()}
	}
	for _, entry := range entries {
		legal := topFiles
		if entry.IsDir() || entry.Name() == ".git" { // in a linked work tree .git is a file
			legal = slices.Concat(topDirs, ignored)
		}
		if !slices.Contains(legal, entry.Name()) {
			broken = append(broken, fmt.Sprintf("%s does not belong to the top level, which is fixed: %s",
				entry.Name(), strings.Join(legal, " ")))
		}
	}
	return broken
}

// longest is the number of lines a function may have: one screen.
const longest = 70

// functionLength counts lines from func to the closing brace. Tests are exempt: their tables are
// long and easy to read.
func functionLength(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		if file.Test || file.Generated {
			continue
		}
		for _, decl := range file.Syntax.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := repo.Fset.Position(function.Pos()).Line, repo.Fset.Position(function.End()).Line
			if lines := last - first + 1; lines > longest {
				broken = append(broken, fmt.Sprintf("%s:%d: %s has %d lines, more than %d: split it",
					file.Path, first, function.Name.Name, lines, longest))
			}
		}
	}
	return broken
}

// unsafeFiles allows unsafe in files named *_unsafe.go only, where a reviewer looks for it.
func unsafeFiles(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		name := strings.TrimSuffix(strings.TrimSuffix(file.Path, ".go"), "_test")
		if slices.Contains(file.Imports, "unsafe") && !strings.HasSuffix(name, "_unsafe") {
			broken = append(broken, file.Path+" imports unsafe: move that code to a file named *_unsafe.go")
		}
	}
	return broken
}

// sleepInTests forbids time.Sleep in tests, which is slow and still races. A sleep is allowed in a
// loop that polls for an event, under testing/synctest, and beside a comment "// event: ..." that
// names the reason why nothing can be polled.
func sleepInTests(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		if !file.Test || slices.Contains(file.Imports, "testing/synctest") {
			continue
		}
		explained := map[int]bool{} // lines with the comment, and the lines below them
		for _, group := range file.Syntax.Comments {
			for _, comment := range group.List {
				if strings.HasPrefix(comment.Text, "// event:") {
					line := repo.Fset.Position(comment.Pos()).Line
					explained[line], explained[line+1] = true, true
				}
			}
		}
		for _, sleep := range sleepsOutsideLoops(file.Syntax) {
			if line := repo.Fset.Position(sleep).Line; !explained[line] {
				broken = append(broken, fmt.Sprintf("%s:%d: time.Sleep outside a loop: poll for the event with a deadline, "+
					"or write the reason why nothing can be polled in a comment // event: ... beside it", file.Path, line))
			}
		}
	}
	return broken
}

// sleepsOutsideLoops returns the calls of time.Sleep that are not within a for statement of the
// same function.
func sleepsOutsideLoops(node ast.Node) (found []token.Pos) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			// A function literal within the loop is a function of its own.
			ast.Inspect(n, func(inner ast.Node) bool {
				if literal, ok := inner.(*ast.FuncLit); ok {
					found = append(found, sleepsOutsideLoops(literal.Body)...)
					return false
				}
				return true
			})
			return false
		case *ast.CallExpr:
			if selector, ok := n.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "Sleep" {
				if of, ok := selector.X.(*ast.Ident); ok && of.Name == "time" {
					found = append(found, n.Pos())
				}
			}
		}
		return true
	})
	return found
}

func gofmt(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		formatted, err := format.Source(file.Source)
		if err != nil {
			broken = append(broken, fmt.Sprintf("%s: %v", file.Path, err))
		} else if !bytes.Equal(formatted, file.Source) {
			broken = append(broken, file.Path+" is not formatted: run gofmt -w on it")
		}
	}
	return broken
}

// mandated lists the libraries that this project is built on. Each is a direct requirement with a
// real use.
var mandated = []string{"github.com/asavie/xdp", "github.com/google/gopacket", "golang.org/x/sys", "github.com/BurntSushi/toml"}

func libraries(repo *Repo) (broken []string) {
	gomod, err := fs.ReadFile(repo.FS, "go.mod")
	if err != nil {
		return []string{err.Error()}
	}
	for _, library := range mandated {
		line := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(library) + `\s+v\S+(.*)$`).FindSubmatch(gomod)
		switch {
		case line == nil:
			broken = append(broken, "go.mod does not require "+library)
		case bytes.Contains(line[1], []byte("// indirect")):
			broken = append(broken, "go.mod marks "+library+" as indirect")
		}
		used := slices.ContainsFunc(repo.Files, func(file *File) bool {
			return !file.Test && slices.ContainsFunc(file.Imports, func(imported string) bool { return within(imported, library) })
		})
		if !used {
			broken = append(broken, library+" is imported by tests only")
		}
	}
	return broken
}

// examples requires the README to name every example.
func examples(repo *Repo) (broken []string) {
	readme, err := fs.ReadFile(repo.FS, "README.md")
	if err != nil {
		return []string{err.Error()}
	}
	files, err := fs.Glob(repo.FS, "conf/examples/*.toml")
	if err != nil {
		return []string{err.Error()}
	}
	if len(files) == 0 {
		broken = append(broken, "conf/examples has no example")
	}
	for _, file := range files {
		if !bytes.Contains(readme, []byte(path.Base(file))) {
			broken = append(broken, "README.md does not mention "+file)
		}
	}
	return broken
}

// targets lists the make targets that the Makefile must have.
var targets = []string{"demo", "test", "bench", "bench-net", "lint", "fuzz", "install", "deb"}

func makeTargets(repo *Repo) (broken []string) {
	makefile, err := fs.ReadFile(repo.FS, "Makefile")
	if err != nil {
		return []string{err.Error()}
	}
	for _, target := range targets {
		if !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
			broken = append(broken, "Makefile has no target "+target)
		}
	}
	if run, err := fs.ReadFile(repo.FS, ".ci/run"); err != nil {
		broken = append(broken, err.Error())
	} else if !bytes.Contains(run, []byte("make test")) {
		broken = append(broken, ".ci/run does not call make test")
	}
	return broken
}
