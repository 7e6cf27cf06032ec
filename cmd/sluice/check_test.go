package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// check runs `sluice check` with a text as the file and returns what it says.
func check(t *testing.T, text string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return sluice(append([]string{"check", writeFile(t, "t.toml", text)}, args...)...)
}

const checked = "[[port]]\nname = \"none0\"\n[[service]]\nname = \"web\"\naddress = \"198.51.100.10\"\nport = 80\n[[service.backend]]\naddress = \"10.0.0.11\"\n"

// TestCheckFile checks the ways to name the file.
func TestCheckFile(t *testing.T) {
	path := writeFile(t, "t.toml", checked)
	for _, args := range [][]string{{"check", path}, {"check", "--config", path}, {"check", "-c", path, "--offline"}, {"check", "--offline", path}} {
		if code, stdout, stderr := sluice(args...); code != 0 || !strings.HasPrefix(stdout, path+": valid: ports=1 services=1 backends=1\n") {
			t.Errorf("%v: exit code %d: %s%s", args, code, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"check", path, "--config", path}, {"check", path, path}} {
		if code, _, stderr := sluice(args...); code != 2 {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	if code, _, stderr := sluice("check", "/nowhere/at/all"); code != 1 || !strings.Contains(stderr, "/nowhere/at/all: cannot be read") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestCheckOffline checks that nothing is asked of this machine, which lacks what the file names.
func TestCheckOffline(t *testing.T) {
	text := "[engine]\ncores = [4000]\n[api]\ntoken_file = \"/nowhere/token\"\n" + checked
	if code, _, stderr := check(t, text); code != 0 || strings.Count(stderr, "warning:") != 3 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, stdout, stderr := check(t, text, "--offline"); code != 0 || stderr != "" || !strings.Contains(stdout, "workers 1") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := check(t, checked, "--offline"); code != 0 || stderr != "" || strings.Contains(stdout, "memory") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// TestShippedExamples checks that the files that are installed are valid on every machine.
func TestShippedExamples(t *testing.T) {
	paths, err := filepath.Glob("../../conf/examples/*.toml")
	if err != nil || len(paths) < 7 {
		t.Fatal(paths, err)
	}
	for _, path := range append(paths, "../../conf/sluice.toml") {
		code, stdout, stderr := sluice("check", "--offline", path)
		if rest := strings.ReplaceAll(stderr, "is empty: no packet is balanced", ""); code != 0 || stderr != rest && !strings.HasSuffix(path, "/sluice.toml") || strings.Count(stderr, "\n") > 1 {
			t.Errorf("%s: exit code %d: %s%s", path, code, stdout, stderr)
		}
	}
}

// TestCheckSyntax checks that a syntax error has a column, and says what to write.
func TestCheckSyntax(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"[[service]]\nname = web\n", `:2:8: name: not valid TOML: web is not in quotes; write name = "web"`},
		{"[[service]]\nname = my web # comment\n", `name: not valid TOML: my web is not in quotes; write name = "my web"`},
		{"address = 198.51.100.10\n", `:1:11: address: not valid TOML: 198.51.100.10 is not in quotes; write address = "198.51.100.10"`},
		{"  address = 2001:db8::1\n", `not valid TOML: 2001:db8::1 is not in quotes; write address = "2001:db8::1"`},
		{"interval = 2s\n", `interval: not valid TOML: 2s is not in quotes; write interval = "2s"`},
		{"interval = 1m30s\n", `write interval = "1m30s"`},
		{"port = 8000-8099\n", `write port = "8000-8099"`},
		{"path = /healthz\n", `write path = "/healthz"`},
		{"name = “web”\n", `write name = "web"`},
		{"source = [10.0.0.2, 10.0.0.3]\n", `10.0.0.2 is not in quotes; write "10.0.0.2"`},
		{"backend = [ { address = 10.0.0.11 } ]\n", `:1:25: not valid TOML: 10.0.0.11 is not in quotes; write "10.0.0.11"`},
		{"cores = 1, 2\n", `cores: not valid TOML: a list is in brackets`},
		{"[[service]]\nname: web\n", `:2:5: name: not valid TOML: write = instead of the colon: name = "web"`},
		{"[[service]]\nport: 80\n", `write = instead of the colon: port = 80`},
		{"port = 080\n", `:1:8: port: not valid TOML: Invalid integer "080"`},
		{"name = \"web\n", `:1:12: name: not valid TOML: strings cannot contain newlines`},
		{"\ufeffname = web\n", `:1:8: name: not valid TOML: web is not in quotes`},
		{"name = \"wéb\" x\n", `:1:13: not valid TOML: expected`},
		{"cores = [1,\n", `not valid TOML: unexpected EOF`},
		{"a = 1 2\n", `:1:6: not valid TOML: expected`},
	} {
		if code, _, stderr := check(t, c.text); code != 1 || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, want %q:\n%s", c.text, code, c.says, stderr)
		}
	}
}

// TestCheckOtherFormats checks that files of other formats are named as what they are.
func TestCheckOtherFormats(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{`{"service": [{"address": "198.51.100.10"}]}`, "t.toml:1:1: not valid TOML: this looks like JSON; a configuration of Sluice is TOML"},
		{"\n[\n  {\"service\": 1}\n]\n", "this looks like JSON"},
		{"# boxes\nservice:\n  - address: 198.51.100.10\n", "this looks like YAML; a configuration of Sluice is TOML"},
		{"---\nservice: {}\n", "this looks like YAML"},
		{"- name: web\n", "this looks like YAML"},
		{"! Configuration File\nglobal_defs {\n}\nvirtual_server 198.51.100.10 80 {\n}\n", "this looks like keepalived.conf: sluice import keepalived "},
		{"# of keepalived\nvrrp_instance VI_1\n{\n}\n", "this looks like keepalived.conf: sluice import keepalived "},
		{"-A -t 198.51.100.10:80 -s wlc\n", "this looks like the output of ipvsadm -S: sluice import ipvsadm "},
		{"#!/bin/sh\n/sbin/ipvsadm -A -t 198.51.100.10:80\n", "sluice import ipvsadm "},
	} {
		if code, _, stderr := check(t, c.text); code != 1 || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, want %q:\n%s", c.text, code, c.says, stderr)
		}
	}
}

// TestCheckHints checks that a value that is almost right has a message that says what to write.
func TestCheckHints(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{`mode = "NAT"`, `"NAT" is unknown; did you mean "nat"? must be one of nat, fullnat, tun, dr`},
		{`mode = "masq"`, `did you mean "nat"?`},
		{`mode = "FNAT"`, `did you mean "fullnat"?`},
		{`mode = "gatewaying"`, `did you mean "dr"?`},
		{`mode = "ipip"`, `did you mean "tun"?`},
		{`protocol = "TCP"`, `did you mean "tcp"?`},
		{`scheduler = "roundrobin"`, `did you mean "rr"?`},
		{`scheduler = "randon"`, `did you mean "random"?`},
		{`scheduler = "r"`, `"r" is unknown; must be one of`},
		{`persistence = 30`, `30 is not a string with a unit; write "30s"; allowed`},
		{`persistence = "5 min"`, `write "5m"`},
		{`persistence = "1 day"`, `write "24h"`},
		{`slow_start = "2"`, `"2" is not a duration; write "2s"`},
		{`slow_start = "9h"`, `"9h" is out of range; allowed`},
		{`source = "10.0.0.2"`, `write ["10.0.0.2"]`},
		{`health = { fall = "3" }`, `"3" is not an integer; write 3 without quotes`},
		{`health = { type = "icmp" }`, `did you mean "ping"?`},
		{`sorry = { address = "[2001:db8::1]" }`, `"[2001:db8::1]" is not an IP address; write it without brackets, "2001:db8::1"; allowed`},
		{`sorry = { address = "www.example.org" }`, `names are not looked up: write the address of www.example.org`},
		{`sorry = { address = "10.0.0.9/32" }`, `is a prefix, not one address; write "10.0.0.9"`},
		{`sorry = { address = "10.0.0.9:81" }`, `write "10.0.0.9" and port = 81`},
		{`sorry = { address = "10.0.0.9", port = "90-80" }`, `"90-80" is not a port; write "80-90"; allowed`},
		{`sorry = { address = "10.0.0.9", port = "80:90" }`, `write "80-90"`},
		{`sorry = { address = "10.0.0.9", port = "80,443" }`, `write a [[service]] for each port`},
		{`sorry = { address = "10.0.0.9", port = 0 }`, `0 is out of range; write "any"`},
		{`sorry = { address = "10.0.0.9", port = "http" }`, `names of ports are not looked up`},
	} {
		text := strings.Replace(checked, "port = 80\n", "port = 80\n"+c.line+"\n", 1)
		if code, _, stderr := check(t, text); code != 1 || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit code %d, want %q:\n%s", c.line, code, c.says, stderr)
		}
	}
}

// TestCheckEqualErrors checks that errors that differ in the element only are one, with a count.
func TestCheckEqualErrors(t *testing.T) {
	services := func(n int, line string) string {
		var b strings.Builder
		b.WriteString("[[port]]\nname = \"none0\"\n")
		for i := range n {
			fmt.Fprintf(&b, "[[service]]\naddress = \"198.51.%d.%d\"\nport = 80\n%s\nbackend = [{ address = \"10.0.0.11\" }]\n", i>>8, i&255, line)
		}
		return b.String()
	}
	many := 20_000
	if testing.Short() {
		many = 2000
	}
	code, _, stderr := check(t, services(many, "mode = \"NAT\""), "--offline")
	if want := `:6: service[0].mode: "NAT" is unknown; did you mean "nat"? must be one of nat, fullnat, tun, dr; ` +
		fmt.Sprintf("%d more like this one, the last at line %d\n", many-1, 5*many+1); code != 1 || !strings.HasSuffix(stderr, want) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, want %q: %.2000s", code, want, stderr)
	}
	code, _, stderr = check(t, services(many, "schedulr = 1"), "--offline")
	if code != 1 || !strings.Contains(stderr, "did you mean scheduler?") || !strings.Contains(stderr, fmt.Sprint(many-1, " more like this one")) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d: %.2000s", code, stderr)
	}
	code, _, stderr = check(t, services(10, "mode = \"NAT\""), "--offline")
	if code != 1 || strings.Count(stderr, "\n") != 10 {
		t.Errorf("exit code %d: ten errors are not listed one by one: %s", code, stderr)
	}
	code, stdout, stderr := check(t, services(1000, "slow_start = \"9s\"\nscheduler = \"rr\""), "--offline")
	if code != 0 || !strings.Contains(stdout, "valid") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "999 more like this one") {
		t.Errorf("exit code %d: %s%.2000s", code, stdout, stderr)
	}
}
