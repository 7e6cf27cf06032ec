package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api/apitest"
)

// TestCompletion: shells complete what the running daemon has, and files where files are wanted.
func TestCompletion(t *testing.T) {
	socket := serve(t, apitest.NewFake())
	for _, c := range []struct{ line, want string }{
		{"drain ", "web\ttcp 198.51.100.10:80 nat\nsix\tudp [2001:db8::10]:8000-8099 fullnat\n:4\n"},
		{"drain web ", "10.0.0.11:8080\tup\n10.0.0.12:8080\tdrain\n10.0.0.12:8081\tdown\n:4\n"},
		{"drain web 10.0.0.11:8080 ", ":4\n"},
		{"weight six ", "[2001:db8::11]:0\tup\n:4\n"},
		{"enable unknown ", ":4\n"},
		{"overrides clear web ", "10.0.0.11:8080\tup\n10.0.0.12:8080\tdrain\n10.0.0.12:8081\tdown\n:4\n"},
		{"health freeze ", "web\ttcp 198.51.100.10:80 nat\nsix\tudp [2001:db8::10]:8000-8099 fullnat\n:4\n"},
		{"conns --service ", "web\ttcp 198.51.100.10:80 nat\nsix\tudp [2001:db8::10]:8000-8099 fullnat\n:4\n"},
		{"list --output ", "table\njson\n:4\n"},
		{"list ", ":4\n"},
	} {
		words := append(strings.Split(c.line, " "), "")[:strings.Count(c.line, " ")+1]
		_, out, _ := sluice(append([]string{"__complete", "--socket", socket}, words...)...)
		if out != c.want {
			t.Errorf("%q completes to\n%s\nwant\n%s", c.line, out, c.want)
		}
	}
	if _, out, _ := sluice("__complete", "apply", ""); out != ":0\n" {
		t.Errorf("apply takes a file: %q", out)
	}
	if _, out, _ := sluice("__complete", "check", "--config", ""); out != "toml\n:8\n" {
		t.Errorf("--config takes a TOML file: %q", out)
	}
	if _, out, _ := sluice("__complete", "drain", "--socket", filepath.Join(t.TempDir(), "none"), ""); out != ":4\n" {
		t.Errorf("without a daemon: %q", out)
	}
}

// TestManual: a page for each command, one for the file, and scripts that shells can read.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := sluice("manual", dir); code != 0 {
		t.Fatal(errs)
	}
	cli.EachCommand(newRoot(), func(cmd *cobra.Command) {
		page := filepath.Join(dir, "man", "man8", strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".8")
		text, err := os.ReadFile(page)
		if cmd.Hidden {
			if err == nil {
				t.Error(page, "is about a hidden command")
			}
		} else if err != nil || !strings.Contains(string(text), ".TH") || cmd.Long == "" && cmd.Short == "" {
			t.Errorf("%s: %v", page, err)
		}
	})
	overview, err := os.ReadFile(filepath.Join(dir, "man", "man8", "sluice.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".SH COMMANDS", "\\fBsluice drain SERVICE BACKEND [flags]\\fP\nGive a backend no new connections", "\\fBsluice health freeze [SERVICE] [flags]\\fP\nKeep the states",
		".SH EXIT STATUS", ".SH FILES", "/etc/sluice/sluice.toml", "/run/sluice/sluice.sock", "/var/lib/sluice", "/usr/share/doc/sluice",
	} {
		if !strings.Contains(string(overview), want) {
			t.Errorf("sluice.8 lacks %q", want)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "man", "man5", "sluice.toml.5"))
	if err != nil || !strings.Contains(string(text), "\n.B tcp_established\n") {
		t.Errorf("sluice.toml.5 lacks keys: %v", err)
	}
	for shell, script := range map[string]string{"bash": "bash-completion/completions/sluice", "zsh": "zsh/vendor-completions/_sluice", "fish": "fish/vendor_completions.d/sluice.fish"} {
		text, err := os.ReadFile(filepath.Join(dir, script))
		if err != nil {
			t.Error(err)
		}
		if code, out, _ := sluice("completion", shell); code != 0 || out != string(text) {
			t.Errorf("sluice completion %s says something else than %s", shell, script)
		}
	}
	if output, err := exec.Command("bash", "-nc", ". "+filepath.Join(dir, "bash-completion/completions/sluice")).CombinedOutput(); err != nil {
		t.Errorf("bash: %v: %s", err, output)
	}
}
