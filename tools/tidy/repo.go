package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the module path of this repository.
const module = "sluice"

// Repo is a source tree.
type Repo struct {
	FS    fs.FS
	Fset  *token.FileSet
	Files []*File // all Go files, by path
}

// File is one Go file.
type File struct {
	Path      string // with slashes, from the root of the repository
	Source    []byte
	Syntax    *ast.File
	Imports   []string
	Test      bool // _test.go
	Generated bool // has a "Code generated" line
}

// Dir returns the directory of the file: the import path of its package below the module.
func (f *File) Dir() string { return path.Dir(f.Path) }

// Read parses all Go files of a tree except test data and what git ignores.
func Read(tree fs.FS) (*Repo, error) {
	repo := &Repo{FS: tree, Fset: token.NewFileSet()}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains(ignored, name) || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		file, err := repo.parse(name)
		if err != nil {
			return err
		}
		repo.Files = append(repo.Files, file)
		return nil
	})
	return repo, err
}

func (r *Repo) parse(name string) (*File, error) {
	source, err := fs.ReadFile(r.FS, name)
	if err != nil {
		return nil, err
	}
	syntax, err := parser.ParseFile(r.Fset, name, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	file := &File{Path: name, Source: source, Syntax: syntax,
		Test: strings.HasSuffix(name, "_test.go"), Generated: ast.IsGenerated(syntax)}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		file.Imports = append(file.Imports, imported)
	}
	return file, nil
}

// within reports whether an import path or a directory is dir or lies below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }
