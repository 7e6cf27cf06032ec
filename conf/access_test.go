package conf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/conf"
)

// accessFile returns a configuration with an [access] table.
func accessFile(lines string) string {
	return "[[port]]\nname = \"eth0\"\n[access]\n" + lines + "\n" + goodService
}

// TestPrefixErrors checks what is said about each kind of mistake in a list.
func TestPrefixErrors(t *testing.T) {
	for text, want := range map[string]string{
		`"10.0.0.0/33"`:        `access.deny[0]: "10.0.0.0/33" has the length "33"; IPv4 prefixes have 0 to 32; allowed: a list of prefixes, each an IPv4 or IPv6 prefix such as`,
		`"2001:db8::/129"`:     `"2001:db8::/129" has the length "129"; IPv6 prefixes have 0 to 128`,
		`"203.0.113.7/24"`:     `"203.0.113.7/24" has bits set behind its length; write "203.0.113.0/24", or "203.0.113.7"; allowed:`,
		`"office.example.com"`: `"office.example.com" is not a prefix; names are not looked up: write the address of office.example.com`,
		`"192.0.2.7:80"`:       `"192.0.2.7:80" is not a prefix; lists have no ports: write "192.0.2.7"`,
		`"::ffff:192.0.2.7"`:   `"::ffff:192.0.2.7" is IPv4 in IPv6 form; write "192.0.2.7"`,
		`"fe80::1%eth0"`:       `has a zone, which is valid on one machine only`,
		`""`:                   `"" is not a prefix`,
		`7`:                    `7 is not a string`,
	} {
		_, _, err := conf.Parse("test.toml", []byte(accessFile("deny = ["+text+"]")), nil)
		if err == nil || !strings.Contains(err.Error(), "test.toml:4: access.deny[0]: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// TestPrefixFile checks that a file of prefixes is read line by line, that its errors name it and
// the line, and that ReadLists reads it again.
func TestPrefixFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deny.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := accessFile(`deny_file = "` + path + `"`)
	_, _, err := conf.Parse("test.toml", []byte(text), nil)
	if want := "access.deny_file: \"" + path + "\" cannot be read: no such file or directory; write a file of prefixes"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	write("# bad\r\n192.0.2.0/24\nhere\n10.0.0.0/99 # twice\n" + strings.Repeat("x\n", 20))
	_, _, err = conf.Parse("test.toml", []byte(text), nil)
	for _, want := range []string{path + `:3: "here" is not a prefix;`, path + `:4: "10.0.0.0/99" has the length "99"`, "12 more lines are no prefixes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	write("\ufeff# good\r\n\r\n192.0.2.0/24\r\n 2001:db8::1\t# one")
	cfg := mustParse(t, text)
	if f := cfg.Access.DenyFile; len(f.Prefixes) != 2 || f.Prefixes[1].String() != "2001:db8::1/128" || f.Lines[1] != 4 {
		t.Errorf("%v", f)
	}
	same, err := cfg.ReadLists()
	if err != nil || same.Access.DenyFile != cfg.Access.DenyFile || len(conf.Diff(cfg, same)) != 0 {
		t.Errorf("%v, %v", same, err)
	}
	write("192.0.2.0/24\n198.51.100.0/24\n")
	next, err := cfg.ReadLists()
	if err != nil {
		t.Fatal(err)
	}
	changes := conf.Diff(cfg, next)
	if len(changes) != 2 || changes[0].Text != "access: deny_file "+path+": 1 added: 198.51.100.0/24" || changes[1].Text != "access: deny_file "+path+": 1 removed: 2001:db8::1/128" {
		t.Errorf("%v", changes)
	}
	write("there\n")
	if next, err = cfg.ReadLists(); next != nil || err == nil || !strings.Contains(err.Error(), path+`:1: "there"`) {
		t.Errorf("%v, %v", next, err)
	}
}
