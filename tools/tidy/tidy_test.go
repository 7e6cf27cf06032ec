package tidy

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestThisRepository holds the repository to its rules.
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
			for _, broken := range rule.Check(repo) {
				t.Error(broken)
			}
		})
	}
	if info, err := os.Stat(filepath.Join(root, ".ci", "run")); err != nil || info.Mode()&0o111 == 0 {
		t.Error(".ci/run cannot be executed:", err)
	}
}

// good is a repository that breaks no rule.
func good() fstest.MapFS {
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"go.mod": text("module sluice\n\nrequire (\n\tgithub.com/asavie/xdp v0.3.3\n\tgithub.com/google/gopacket v1.1.19\n" +
			"\tgolang.org/x/sys v0.49.0\n\tgithub.com/BurntSushi/toml v1.6.0\n\tother.org/x v1.0.0 // indirect\n)\n"),
		"README.md":              text("see conf/examples/nat.toml\n"),
		"Makefile":               text("demo:\ntest:\nbench:\nbench-net:\nlint:\nfuzz:\ninstall:\ndeb:\n"),
		".ci/run":                text("make test\n"),
		"conf/examples/nat.toml": text(""),
		"bin/junk.go":            text("this is not Go"),
		"conf/load.go":           text("package conf\n\nimport (\n\t_ \"github.com/BurntSushi/toml\"\n\t_ \"sluice/pipeline/service\"\n)\n"),
		"tools/pktgen/gen.go":    text("package pktgen\n\nimport (\n\t_ \"github.com/asavie/xdp\"\n\t_ \"github.com/google/gopacket/layers\"\n\t_ \"golang.org/x/sys/unix\"\n)\n"),
	}
}

func TestRulesFindWhatBreaksThem(t *testing.T) {
	long := func(lines int) string {
		return "package x\n\nfunc long() {\n" + strings.Repeat("\t_ = 1\n", lines-2) + "}\n"
	}
	for _, c := range []struct {
		rule, path, text string
		says             string // "": breaks nothing
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
		{"imports", "engine/x.go", `import _ "sluice/tools/netlab"`, "the engine is the only room"},
		{"imports", "engine/x_test.go", `import _ "sluice/tools/netlab"`, ""},
		{"imports", "engine/api/x.go", `import _ "sluice/engine"`, "api cannot know the engine"},
		{"imports", "engine/enginetest/x.go", `import _ "sluice/engine"`, ""},
		{"imports", "cmd/sluice/x.go", `import _ "sluice/engine/xsk"`, ""},
		{"imports", "cmd/sluice/x.go", `import _ "sluice/pipeline/conn"`, "only wires"},
		{"imports", "elsewhere/x.go", `import _ "sluice/conf"`, "not in the lattice"},
		{"imports", "tools/x/x.go", `import _ "sluice/cmd/sluice"`, "never the other way round"},

		{"unsafe", "rings/x.go", `import _ "unsafe"`, "*_unsafe.go"},
		{"unsafe", "rings/x_unsafe.go", `import _ "unsafe"`, ""},
		{"unsafe", "rings/x_unsafe_test.go", `import _ "unsafe"`, ""},
		{"unsafe", "rings/x_test.go", `import _ "unsafe"`, "*_unsafe.go"},

		{"function length", "pipeline/x.go", long(70), ""},
		{"function length", "pipeline/x.go", long(71), "long has 71 lines, more than 70"},
		{"function length", "engine/x.go", long(100), ""},
		{"function length", "engine/x.go", long(101), "long has 101 lines, more than 100"},
		{"function length", "engine/x_test.go", long(200), ""},
		{"function length", "engine/x.go", "// Code generated by x. DO NOT EDIT.\n" + long(200), ""},

		{"sleep in tests", "rings/x_test.go", "func f() { time.Sleep(1) }", "time.Sleep outside a loop"},
		{"sleep in tests", "rings/x_test.go", "func f() { time.Sleep(1) } // event: the kernel tells nobody", ""},
		{"sleep in tests", "rings/x_test.go", "func f() {\n\t// event: none\n\ttime.Sleep(1)\n}", ""},
		{"sleep in tests", "rings/x_test.go", "func f() { for !done() { time.Sleep(1) } }", ""},
		{"sleep in tests", "rings/x_test.go", "func f() { for range 9 { go func() { time.Sleep(1) }() } }", "time.Sleep outside a loop"},
		{"sleep in tests", "rings/x_test.go", "import _ \"testing/synctest\"\n\nfunc f() { time.Sleep(1) }", ""},
		{"sleep in tests", "rings/x.go", "func f() { time.Sleep(1) }", ""},

		{"gofmt", "rings/x.go", "func  f() {}", "is not formatted"},
		{"gofmt", "rings/x.go", "func f() {}", ""},

		{"libraries", "go.mod", "require (\n\tgithub.com/asavie/xdp v0.3.3 // indirect\n)", "calls github.com/asavie/xdp indirect"},
		{"libraries", "go.mod", "module sluice\n", "does not require github.com/BurntSushi/toml"},
		{"libraries", "conf/load.go", "import _ \"os\"", "github.com/BurntSushi/toml is imported by no code but tests"},
		{"libraries", "x.go", "import _ \"os\"", ""},

		{"examples", "conf/examples/dr.toml", "", "README.md does not mention conf/examples/dr.toml"},
		{"links", "README.md", "see conf/examples/nat.toml and [this](conf/a.md)", "README.md: (conf/a.md) leads nowhere"},
		{"links", "README.md", "see conf/examples/nat.toml and [this](conf/load.go) [out](https://sluice.example/x.md)", ""},
		{"links", "README.md", "# Two words: `x`\n[up](#two-words-x) conf/examples/nat.toml", ""},
		{"links", "README.md", "# Two words\n[up](#three) conf/examples/nat.toml", "leads to a heading that is not there"},
		{"links", "conf/a.md", "alone", "conf/a.md is a page that no other leads to"},
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
		if (c.says == "") != (len(got) == 0) || !strings.Contains(strings.Join(got, "\n"), c.says) {
			t.Errorf("%s: %s with %q:\n got %q\nwant %q", c.rule, c.path, text, got, c.says)
		}
	}
}

func TestAGoodRepositoryBreaksNothing(t *testing.T) {
	for _, rule := range Rules {
		if broken := check(t, rule.Name, good()); len(broken) > 0 {
			t.Errorf("%s: %q", rule.Name, broken)
		}
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
