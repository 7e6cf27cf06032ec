package tidy

import (
	"fmt"
	"slices"
	"strings"
)

// impure lists what the pipeline must not import. Time and outcome are passed in and out, so that
// every test of the pipeline is a function call.
var impure = []struct {
	standard string
	except   func(imported, dir string) bool
}{
	{"net", func(imported, _ string) bool { return imported == "net/netip" }},
	{"os", nil},
	{"time", nil},
	{"log", nil},
	{"sync", func(imported, dir string) bool { return imported == "sync/atomic" && dir == "pipeline/counter" }},
	{"syscall", nil},
	{"golang.org/x/sys", nil},
}

// imports reports every import that the lattice does not allow, and every package that it does not
// name.
func imports(repo *Repo) (broken []string) {
	unnamed := map[string]bool{}
	for _, file := range repo.Files {
		entry := layerOf(file.Dir())
		if entry == nil && !unnamed[file.Dir()] {
			unnamed[file.Dir()] = true
			broken = append(broken, file.Dir()+" is not in the lattice: add an entry to tools/tidy/lattice.go that names what it may import")
		}
		for _, imported := range file.Imports {
			if why := forbidden(file, entry, imported); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s (see its entry in tools/tidy/lattice.go)", file.Path, imported, why))
			}
		}
	}
	return broken
}

// latticeEntries reports every entry of the lattice that has no package.
func latticeEntries(repo *Repo) (broken []string) {
	for _, entry := range lattice {
		if !slices.ContainsFunc(repo.Files, func(file *File) bool { return file.Dir() == entry.pkg }) {
			broken = append(broken, entry.pkg+" is no package: remove its entry from tools/tidy/lattice.go")
		}
	}
	return broken
}

// layerOf returns the entry of a package, nil if the lattice does not name it.
func layerOf(pkg string) *layer {
	at := slices.IndexFunc(lattice, func(entry layer) bool { return entry.pkg == pkg })
	if at < 0 {
		return nil
	}
	return &lattice[at]
}

// forbidden returns the reason why a file must not import a package, "" if it may. The entry is
// that of the file's package, nil for a package that the lattice does not name.
func forbidden(file *File, entry *layer, imported string) string {
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		if entry == nil || ours == file.Dir() || matches(ours, entry.may) || file.Test && testMay(file, ours) {
			return ""
		}
		return entry.why
	}
	if file.Test {
		return ""
	}
	if within(file.Path, "rings") && !standard(imported) && !within(imported, "golang.org/x/sys") {
		return "rings import the standard library and x/sys only"
	}
	if !within(file.Path, "pipeline") {
		return ""
	}
	for _, rule := range impure {
		if within(imported, rule.standard) && (rule.except == nil || !rule.except(imported, file.Dir())) {
			return pure
		}
	}
	return ""
}

// testMay reports whether the tests of the file's directory may import a package.
func testMay(file *File, ours string) bool {
	return slices.ContainsFunc(tests, func(entry layer) bool { return within(file.Path, entry.pkg) && matches(ours, entry.may) })
}

// matches reports whether a package is one of those that the patterns of a layer allow.
func matches(pkg, patterns string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		dir, below := strings.CutSuffix(pattern, "/...")
		return pkg == dir || below && within(pkg, dir)
	})
}

// standard reports whether an import path belongs to the standard library: the first element of its
// path has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}
