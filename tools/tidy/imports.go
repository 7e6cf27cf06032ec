package tidy

import (
	"fmt"
	"slices"
	"strings"
)

// lattice says for each room what it may import of this repository. Imports point one way:
//
//	cmd -> engine, conf      engine -> pipeline, rings, conf      conf -> pipeline/service
//
// The longest matching room counts. A room may always import itself and what is below it.
var lattice = []struct {
	room string
	may  []string
	why  string
}{
	{"cmd", []string{"engine", "conf"}, "the binary only wires"},
	{"engine", []string{"pipeline", "rings", "conf"}, "the engine is the only room that knows both rings and pipeline"},
	{"engine/api", []string{"pipeline/service", "pipeline/counter"}, "the engine implements api.Control, so api cannot know the engine"},
	{"engine/enginetest", []string{"engine", "pipeline", "rings", "conf"}, "it is the whole engine on memory ports"},
	{"conf", []string{"pipeline/service"}, "a configuration is checked without a machine"},
	{"pipeline", nil, "the pipeline is pure"},
	{"pipeline/service", nil, "service is a leaf"},
	{"pipeline/counter", nil, "counter is a leaf"},
	{"rings", nil, "rings carry descriptors of whatever is in them"},
	{"bench", []string{"engine", "pipeline", "rings", "conf", "tools"}, "benchmarks span rooms"},
	{"tools", []string{"engine", "pipeline", "rings", "conf"}, "tools may use the product, never the other way round"},
}

// helpers may be imported by the tests of all rooms.
var helpers = []string{"tools", "engine/enginetest"}

// impure is what the pipeline must not import: time and outcome are passed in and out, so that
// every test of it is a function call. The exceptions are by package.
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

func imports(repo *Repo) (broken []string) {
	for _, file := range repo.Files {
		for _, imported := range file.Imports {
			if why := forbidden(file, imported); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", file.Path, imported, why))
			}
		}
	}
	return broken
}

// forbidden says why a file must not import a package, "" if it may.
func forbidden(file *File, imported string) string {
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		return forbiddenRoom(file, ours)
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
			return "the pipeline is pure"
		}
	}
	return ""
}

func forbiddenRoom(file *File, ours string) string {
	if file.Test && slices.ContainsFunc(helpers, func(helper string) bool { return within(ours, helper) }) {
		return ""
	}
	room, may, why := "", []string(nil), "this room is not in the lattice"
	for _, rule := range lattice {
		if within(file.Path, rule.room) && len(rule.room) > len(room) {
			room, may, why = rule.room, rule.may, rule.why
		}
	}
	if room != "" && within(ours, room) {
		return ""
	}
	if slices.ContainsFunc(may, func(legal string) bool { return within(ours, legal) }) {
		return ""
	}
	return why
}

// standard says whether an import path is of the standard library: those have no dot in their first
// element.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}
