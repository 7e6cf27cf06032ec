package state_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/engine/state"
)

// open returns the store of a daemon in dir, and its directory.
func open(dir string) (*state.Store, string) {
	s := state.Open(dir, "/etc/sluice/sluice.toml", slog.New(slog.DiscardHandler))
	return s, s.Dir()
}

// TestGenerations checks numbers, the limit of ten, and that a restart finds what was stored.
func TestGenerations(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(dir)
	all := state.LoadGenerations(s)
	for _, text := range strings.Split("a a b c d e f g h i j k l", " ") {
		all.Add(all.Next(text, "reload"))
	}
	s, _ = open(dir)
	for name, all := range map[string]*state.Generations{"in memory": all, "after a restart": state.LoadGenerations(s)} {
		list := all.List()
		if len(list) != 10 || list[0].Number != 12 || list[0].Text != "l" || list[0].Cause != "reload" || list[9].Number != 3 {
			t.Errorf("%s: %+v", name, list)
		}
		if g, err := all.Find(0, list[0]); err != nil || g.Text != "k" {
			t.Errorf("%s: the generation before the latest: %+v, %v", name, g, err)
		}
		if g, err := all.Find(5, list[0]); err != nil || g.Number != 5 {
			t.Errorf("%s: generation 5: %+v, %v", name, g, err)
		}
		if _, err := all.Find(2, list[0]); err == nil {
			t.Errorf("%s: generation 2 is still there", name)
		}
		if next := all.Next("l", "apply"); next.Number != 12 {
			t.Errorf("%s: the same text is generation %d", name, next.Number)
		}
	}
}

// TestSetAside checks that a file with an invalid name is renamed.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	s, own := open(dir)
	s.Save("x.toml", []byte("text"))
	if list := state.LoadGenerations(s).List(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if text, err := os.ReadFile(filepath.Join(own, "x.toml.broken")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestNoDirectory checks that a store without a directory accepts everything and keeps nothing.
func TestNoDirectory(t *testing.T) {
	s, _ := open("")
	s.Save("a", []byte("text"))
	if s.Err() != nil || s.Load("a") != nil {
		t.Error(s.Err(), s.Load("a"))
	}
}

// TestReplaceConfig checks the content, the former content beside it, and that a link stays a link.
func TestReplaceConfig(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := state.CanReplace(link); err != nil {
		t.Error(err)
	}
	if err := state.ReplaceConfig(link, "new"); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{file: "new", link: "new", link + ".previous": "old"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Error("the link is gone:", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Error("the mode has changed:", err)
	}
	if err := state.CanReplace(filepath.Join(dir, "missing", "file")); err == nil {
		t.Error("a file in a missing directory can be replaced")
	}
}
