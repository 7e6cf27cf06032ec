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

// Rule finds what breaks it: one sentence each.
type Rule struct {
	Name  string
	Check func(*Repo) []string
}

// Rules is all of them.
var Rules = []Rule{
	{"top level", topLevel},
	{"imports", imports},
	{"unsafe", unsafeFiles},
	{"function length", functionLength},
	{"sleep in tests", sleepInTests},
	{"gofmt", gofmt},
	{"libraries", libraries},
	{"examples", examples},
	{"make targets", makeTargets},
	{"links", links},
}

// ignored are the directories that builds write to and git does not keep.
var ignored = []string{".git", "bin", "bench/out"}

// The top level is fixed: these rooms and these files.
var (
	rooms    = []string{".ci", "bench", "cmd", "conf", "engine", "pipeline", "rings", "tools"}
	topFiles = []string{".gitignore", ".golangci.yml", "LICENSE", "Makefile", "README.md", "go.mod", "go.sum"}
)

func topLevel(repo *Repo) (broken []string) {
	entries, err := fs.ReadDir(repo.FS, ".")
	if err != nil {
		return []string{err.Error()}
	}
	for _, entry := range entries {
		legal := topFiles
		if entry.IsDir() || entry.Name() == ".git" { // which is a file in a further work tree
			legal = slices.Concat(rooms, ignored)
		}
		if !slices.Contains(legal, entry.Name()) {
			broken = append(broken, fmt.Sprintf("%s does not belong to the top level, which is fixed: %s",
				entry.Name(), strings.Join(legal, " ")))
		}
	}
	return broken
}

// longest is how many lines a function may have: a screen on the packet path, a bit more elsewhere.
const (
	longestInPipeline = 70
	longestElsewhere  = 100
)

// functionLength counts from func to the closing brace. Tests are free: their tables are long and
// easy to read.
func functionLength(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		if file.Test || file.Generated {
			continue
		}
		limit := longestElsewhere
		if within(file.Path, "pipeline") {
			limit = longestInPipeline
		}
		for _, decl := range file.Syntax.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := repo.Fset.Position(function.Pos()).Line, repo.Fset.Position(function.End()).Line
			if lines := last - first + 1; lines > limit {
				broken = append(broken, fmt.Sprintf("%s:%d: %s has %d lines, more than %d: split it",
					file.Path, first, function.Name.Name, lines, limit))
			}
		}
	}
	return broken
}

// unsafeFiles keeps unsafe where a reviewer looks for it.
func unsafeFiles(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		name := strings.TrimSuffix(strings.TrimSuffix(file.Path, ".go"), "_test")
		if slices.Contains(file.Imports, "unsafe") && !strings.HasSuffix(name, "_unsafe") {
			broken = append(broken, file.Path+" imports unsafe: that belongs into a file named *_unsafe.go")
		}
	}
	return broken
}

// sleepInTests forbids to sleep in the hope that something has happened by then. A loop that looks
// again after a while is waiting for the event itself, and in testing/synctest time is not real;
// anything else says in a comment "// event: ..." what cannot be waited for.
func sleepInTests(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		if !file.Test || slices.Contains(file.Imports, "testing/synctest") {
			continue
		}
		explained := map[int]bool{} // lines with the comment, and those below
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
					"or say beside it, after // event:, why nothing can be polled", file.Path, line))
			}
		}
	}
	return broken
}

// sleepsOutsideLoops finds the calls of time.Sleep that no for statement of the same function
// surrounds.
func sleepsOutsideLoops(node ast.Node) (found []token.Pos) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			// Only a function literal within may still hold a sleep of its own.
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

// mandated are the libraries that this project is to be built on: direct requirements with a real
// job.
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
			broken = append(broken, "go.mod calls "+library+" indirect")
		}
		used := slices.ContainsFunc(repo.Files, func(file *File) bool {
			return !file.Test && slices.ContainsFunc(file.Imports, func(imported string) bool { return within(imported, library) })
		})
		if !used {
			broken = append(broken, library+" is imported by no code but tests")
		}
	}
	return broken
}

// examples makes the README name every example, so that a reader finds them and none is forgotten.
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

// targets are the make targets that operators and machines may rely on.
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
