package tidy

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestThisRepository applies all rules to this repository.
func TestThisRepository(t *testing.T) {
	root := filepath.Join("..", "..")
	repo, err := Read(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(repo.Files) < 50 {
		t.Fatalf("only %d Go files were found: is %s the root?", len(repo.Files), root)
	}
	for _, rule := range Rules {
		t.Run(rule.Name, func(t *testing.T) {
			broken := rule.Check(repo)
			for _, sentence := range broken {
				t.Error(sentence)
			}
			if len(broken) > 0 {
				t.Logf("%d times broken", len(broken))
			}
		})
	}
	if info, err := os.Stat(filepath.Join(root, ".ci", "run")); err != nil || info.Mode()&0o111 == 0 {
		t.Error(".ci/run cannot be executed:", err)
	}
}

// good returns a tree that breaks no rule.
func good() fstest.MapFS {
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"go.mod": text("module sluice\n\nrequire (\n\tgithub.com/asavie/xdp v0.3.3\n\tgithub.com/google/gopacket v1.1.19\n" +
			"\tgolang.org/x/sys v0.49.0\n\tgithub.com/BurntSushi/toml v1.6.0\n\tother.org/x v1.0.0 // indirect\n)\n"),
		"README.md":              text("see conf/examples/nat.toml and [the code](ARCHITECTURE.md)\n"),
		"ARCHITECTURE.md":        text("`conf/load.go`\n"),
		"Makefile":               text("demo:\ntest:\nbench:\nbench-net:\nlint:\nfuzz:\ninstall:\ndeb:\nMANUALS := $(wildcard *.md)\n"),
		".ci/run":                text("make test\n"),
		"conf/examples/nat.toml": text(""),
		"bin/junk.go":            text("this is not Go"),
		"conf/load.go":           text("// Package conf reads.\npackage conf\n\nimport (\n\t_ \"github.com/BurntSushi/toml\"\n\t_ \"sluice/pipeline/service\"\n)\n"),
		"tools/pktgen/gen.go":    text("// Package pktgen generates.\npackage pktgen\n\nimport (\n\t_ \"github.com/asavie/xdp\"\n\t_ \"github.com/google/gopacket/layers\"\n\t_ \"golang.org/x/sys/unix\"\n)\n"),
	}
}

func TestRules(t *testing.T) {
	long := func(lines int) string {
		return "package x\n\nfunc long() {\n" + strings.Repeat("\t_ = 1\n", lines-2) + "}\n"
	}
	for _, c := range []struct {
		rule, path, text string
		want             string // part of the message; "": the tree breaks nothing
	}{
		{"top level", "docs/a.md", "", "docs does not belong"},
		{"top level", "notes.txt", "", "notes.txt does not belong"},
		{"top level", "bin/sluice", "", ""},

		{"imports", "pipeline/x.go", `import _ "sluice/rings"`, "the pipeline is pure"},
		{"imports", "pipeline/conn/x.go", `import _ "sluice/engine/api"`, "the pipeline is pure"},
		{"imports", "pipeline/conn/x.go", `import _ "sluice/pipeline/flow"`, ""},
		{"imports", "pipeline/x.go", `import _ "time"`, "the pipeline is pure"},
		{"imports", "pipeline/x.go", `import _ "log/slog"`, "the pipeline is pure"},
		{"imports", "pipeline/x.go", `import _ "net"`, "the pipeline is pure"},
		{"imports", "pipeline/x.go", `import _ "net/netip"`, ""},
		{"imports", "pipeline/x.go", `import _ "sync/atomic"`, "the pipeline is pure"},
		{"imports", "pipeline/counter/x.go", `import _ "sync/atomic"`, ""},
		{"imports", "pipeline/counter/x.go", `import _ "sync"`, "the pipeline is pure"},
		{"imports", "pipeline/counter/x.go", `import _ "sluice/pipeline/flow"`, "counter is a leaf"},
		{"imports", "pipeline/x_test.go", `import _ "time"`, ""},
		{"imports", "pipeline/x_test.go", `import _ "sluice/rings"`, "the pipeline is pure"},
		{"imports", "rings/x.go", `import _ "golang.org/x/sys/unix"`, ""},
		{"imports", "rings/x.go", `import _ "github.com/cilium/ebpf"`, "standard library and x/sys only"},
		{"imports", "rings/x_test.go", `import _ "pgregory.net/rapid"`, ""},
		{"imports", "rings/x.go", `import _ "sluice/pipeline"`, "rings carry descriptors"},
		{"imports", "conf/x.go", `import _ "sluice/pipeline/counter"`, "checked without a machine"},
		{"imports", "engine/x.go", `import _ "sluice/engine/api"`, ""},
		{"imports", "engine/x.go", `import _ "sluice/tools/netlab"`, "the engine runs everything below it"},
		{"imports", "engine/x_test.go", `import _ "sluice/tools/netlab"`, ""},
		{"imports", "engine/api/x.go", `import _ "sluice/engine"`, "api cannot know the engine"},
		{"imports", "engine/enginetest/x.go", `import _ "sluice/engine"`, ""},
		{"imports", "cmd/sluice/x.go", `import _ "sluice/engine/xsk"`, ""},
		{"imports", "cmd/sluice/x.go", `import _ "sluice/pipeline/conn"`, "only wires"},
		{"imports", "elsewhere/x.go", "", "elsewhere is not in the lattice: add an entry"},
		{"imports", "engine/api/more/x.go", "", "engine/api/more is not in the lattice: add an entry"},
		{"imports", "engine/worker/x.go", `import _ "sluice/engine/platform"`, ""},
		{"imports", "engine/worker/x.go", `import _ "sluice/engine/platform/linux"`, "platform <- worker"},
		{"imports", "engine/platform/x.go", `import _ "sluice/engine/worker"`, "platform is an interface"},
		{"imports", "engine/tables/x.go", `import _ "sluice/engine/health/policy"`, ""},
		{"imports", "engine/health/policy/x.go", `import _ "sluice/engine/tables"`, "policy <- tables"},
		{"imports", "engine/inspect/x.go", `import _ "sluice/engine"`, "without an Engine"},
		{"imports", "engine/inspect/x_test.go", `import _ "sluice/engine"`, "without an Engine"},
		{"imports", "engine/inspect/x_test.go", `import _ "sluice/engine/enginetest"`, ""},
		{"imports", "engine/override/x.go", `import _ "sluice/engine/state"`, "override <- policy"},
		{"imports", "engine/state/x.go", `import _ "sluice/engine/override"`, "what is stored knows nothing of what runs"},
		{"imports", "tools/demo/x.go", `import _ "sluice/cmd/sluice"`, "never the other way round"},

		{"unsafe", "rings/x.go", `import _ "unsafe"`, "*_unsafe.go"},
		{"unsafe", "rings/x_unsafe.go", `import _ "unsafe"`, ""},
		{"unsafe", "rings/x_unsafe_test.go", `import _ "unsafe"`, ""},
		{"unsafe", "rings/x_test.go", `import _ "unsafe"`, "*_unsafe.go"},

		{"function length", "pipeline/x.go", long(70), ""},
		{"function length", "pipeline/x.go", long(71), "long has 71 lines, more than 70"},
		{"function length", "engine/x.go", long(71), "long has 71 lines, more than 70"},
		{"function length", "engine/x_test.go", long(200), ""},
		{"function length", "engine/x.go", "// Code generated by x. DO NOT EDIT.\n" + long(200), ""},

		{"sleep in tests", "rings/x_test.go", "func f() { time.Sleep(1) }", "time.Sleep outside a loop"},
		{"sleep in tests", "rings/x_test.go", "func f() { time.Sleep(1) } // event: the kernel reports nothing", ""},
		{"sleep in tests", "rings/x_test.go", "func f() {\n\t// event: none\n\ttime.Sleep(1)\n}", ""},
		{"sleep in tests", "rings/x_test.go", "func f() { for !done() { time.Sleep(1) } }", ""},
		{"sleep in tests", "rings/x_test.go", "func f() { for range 9 { go func() { time.Sleep(1) }() } }", "time.Sleep outside a loop"},
		{"sleep in tests", "rings/x_test.go", "import _ \"testing/synctest\"\n\nfunc f() { time.Sleep(1) }", ""},
		{"sleep in tests", "rings/x.go", "func f() { time.Sleep(1) }", ""},

		{"gofmt", "rings/x.go", "func  f() {}", "is not formatted"},
		{"gofmt", "rings/x.go", "func f() {}", ""},

		{"libraries", "go.mod", "require (\n\tgithub.com/asavie/xdp v0.3.3 // indirect\n)", "marks github.com/asavie/xdp as indirect"},
		{"libraries", "go.mod", "module sluice\n", "does not require github.com/BurntSushi/toml"},
		{"libraries", "conf/load.go", "import _ \"os\"", "github.com/BurntSushi/toml is imported by tests only"},
		{"libraries", "x.go", "import _ \"os\"", ""},

		{"examples", "conf/examples/dr.toml", "", "README.md does not mention conf/examples/dr.toml"},
		{"links", "README.md", "see conf/examples/nat.toml and [this](conf/a.md)", "README.md: (conf/a.md) does not exist"},
		{"links", "README.md", "see conf/examples/nat.toml and [this](conf/load.go) [out](https://sluice.example/x.md) [the code](ARCHITECTURE.md)", ""},
		{"links", "README.md", "# Two words: `x`\n[up](#two-words-x) conf/examples/nat.toml [the code](ARCHITECTURE.md)", ""},
		{"links", "README.md", "# Two words\n[up](#three) conf/examples/nat.toml", "names a heading that the page does not have"},
		{"links", "README.md", "```\n# two\n```\n[up](#two)", "names a heading that the page does not have"},
		{"manual", "conf/a.md", "", "conf/a.md is not installed: add it to MANUALS"},
		{"manual", "README.md", "[file](conf/examples/nat.toml) [out](https://sluice.example/x.md) [up](#two)", ""},
		{"manual", "README.md", "[code](conf/load.go)", "README.md: (conf/load.go) is not installed"},
		{"manual", "Makefile", "MANUALS := README.md\n", "Makefile has no line MANUALS"},
		{"architecture", "ARCHITECTURE.md", "see `conf/load.go`, `conf/*.go` and `conf/`", ""},
		{"architecture", "ARCHITECTURE.md", "see `conf/none.go`", "ARCHITECTURE.md names conf/none.go, which does not exist"},
		{"links", "conf/a.md", "alone", "conf/a.md is not linked from any page"},
		{"package comments", "rings/x.go", "", "rings has no package comment"},
		{"package comments", "rings/x.go", "// Package x is empty.\npackage x\n", ""},
		{"package comments", "conf/more.go", "", ""},
		{"comment width", "rings/x.go", "// " + strings.Repeat("x", 97), ""},
		{"comment width", "rings/x.go", "// " + strings.Repeat("x", 98), "rings/x.go:3: a line with a comment has 101 columns, more than 100"},
		{"comment width", "rings/x.go", "func f() {\n\tg() // " + strings.Repeat("x", 90) + "\n}", "rings/x.go:4: a line with a comment has 101 columns"},
		{"comment width", "rings/x.go", "/*\n" + strings.Repeat("x", 101) + "\n*/", "rings/x.go:4: a line with a comment has 101 columns"},
		{"comment width", "rings/x.go", "var x = `" + strings.Repeat("x", 101) + "`", ""},
		{"comment width", "rings/x.go", "//go:generate " + strings.Repeat("x", 101), ""},
		{"comment width", "rings/x.go", "// Code generated by x. DO NOT EDIT.\npackage x\n\n// " + strings.Repeat("x", 98), ""},
		{"words", "rings/x.go", "// Nobody waits.", `rings/x.go:3: the word "Nobody" is avoided here: write no one`},
		{"words", "rings/x.c", "/* lest it fails */", `the word "lest" is avoided here`},
		{"words", "Makefile", "# whose\n", `the word "whose" is avoided here`},
		{"words", "rings/x.go", "// The janitor swept, unless it was lestoil.", ""},
		{"words", "rings/testdata/x.md", "whose", ""},
		{"identifiers", "rings/x.go", "type wards int", "rings/x.go:3: wards is a retired identifier"},
		{"identifiers", "rings/x.go", "func f() { var heard int; _ = heard }", "rings/x.go:3: heard is a retired identifier"},
		{"identifiers", "rings/x.go", "// heard\nvar overheard = \"heard\"", ""},
		{"identifiers", "rings/poke_test.go", "", "rings/poke_test.go: poke is a retired name"},
		{"identifiers", "rings/crowd/x.go", "", "rings/crowd: crowd is a retired name"},
		{"identifiers", "rings/rst_probe.go", "", ""},
		{"make targets", "Makefile", "demo:\n", "Makefile has no target test"},
		{"make targets", ".ci/run", "exit 0\n", ".ci/run does not call make test"},
		{"make targets", "x.go", "", ""},
	} {
		text := c.text
		if strings.HasSuffix(c.path, ".go") && !strings.Contains(text, "package x") {
			text = "package x\n\n" + text + "\n"
		}
		tree := good()
		tree[c.path] = &fstest.MapFile{Data: []byte(text)}
		got := check(t, c.rule, tree)
		if (c.want == "") != (len(got) == 0) || !strings.Contains(strings.Join(got, "\n"), c.want) {
			t.Errorf("%s: %s with %q:\n got %q\nwant %q", c.rule, c.path, text, got, c.want)
		}
	}
}

func TestGoodRepository(t *testing.T) {
	for _, rule := range Rules {
		if rule.Name == "lattice entries" {
			continue // tested below: a good repository has a package for every entry
		}
		if broken := check(t, rule.Name, good()); len(broken) > 0 {
			t.Errorf("%s: %q", rule.Name, broken)
		}
	}
}

func TestLatticeEntries(t *testing.T) {
	tree := good()
	for _, entry := range lattice {
		tree[entry.pkg+"/x.go"] = &fstest.MapFile{Data: []byte("package x\n")}
	}
	if broken := check(t, "lattice entries", tree); len(broken) > 0 {
		t.Error(broken)
	}
	delete(tree, "rings/x.go")
	if broken := check(t, "lattice entries", tree); len(broken) != 1 || !strings.Contains(broken[0], "rings is no package") {
		t.Error(broken)
	}
}

// check applies one rule to a tree.
func check(t *testing.T, name string, tree fs.FS) []string {
	t.Helper()
	repo, err := Read(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range Rules {
		if rule.Name == name {
			return rule.Check(repo)
		}
	}
	t.Fatal("no rule", name)
	return nil
}
