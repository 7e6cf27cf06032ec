package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Access is which clients may open connections: [access] for all services, [service.access] for
// one. The longest prefix that contains the client's address decides, deny before allow if two are
// equal. A client that no prefix contains is denied if there is an allow list, though it be empty.
type Access struct {
	Allow     []netip.Prefix // nil: none; empty: a list without prefixes
	Deny      []netip.Prefix
	AllowFile *PrefixFile // nil: none
	DenyFile  *PrefixFile
}

// PrefixFile is a file with one prefix per line, as it was read. It is immutable.
type PrefixFile struct {
	Path     string
	Prefixes []netip.Prefix
	Lines    []int32 // of the prefixes, from 1
}

// Restricted reports whether clients that no prefix contains are denied.
func (a *Access) Restricted() bool { return a.Allow != nil || a.AllowFile != nil }

// Empty reports whether a allows all clients.
func (a *Access) Empty() bool { return !a.Restricted() && len(a.Deny) == 0 && a.DenyFile == nil }

// maxListProblems limits the errors that are listed for one file of prefixes.
const maxListProblems = 10

// allowedPrefix is what a list of prefixes may have.
const allowedPrefix = `an IPv4 or IPv6 prefix such as "203.0.113.0/24" or "2001:db8::/32", or an address`

func (t table) access() Access {
	return Access{
		Allow: t.prefixes("allow"), Deny: t.prefixes("deny"),
		AllowFile: t.prefixFile("allow_file"), DenyFile: t.prefixFile("deny_file"),
	}
}

// prefixes reads a list of prefixes, which may be empty and have prefixes twice. It returns nil if
// the file does not have the list.
func (t table) prefixes(key string) []netip.Prefix {
	raw, ok := t.values[key]
	if !ok {
		return nil
	}
	s, at := t.setting(key), t.at.key(key)
	elements, ok := raw.([]any)
	if !ok {
		t.fail(at, "%s is not a list; %s%s", describe(raw), hintList(raw), s.allowed())
		return nil
	}
	all := make([]netip.Prefix, 0, len(elements))
	for i, element := range elements {
		text, isText := element.(string)
		p, wrong := netip.Prefix{}, describe(element)+" is not a string"
		if isText {
			p, wrong = ParsePrefix(text)
		}
		if wrong != "" {
			t.fail(at.item(i), "%s; %s%s", wrong, hintPrefix(text), s.allowed())
			continue
		}
		all = append(all, p)
	}
	return all
}

// prefixFile reads the file that a key names. Services may share one: it is read once. It returns
// nil if there is no such key, or if the file has errors.
func (t table) prefixFile(key string) *PrefixFile {
	path := t.text(key)
	if path == "" {
		return nil
	}
	if f, read := t.lists[path]; read {
		return f
	}
	if t.lists == nil {
		t.lists = make(map[string]*PrefixFile)
	}
	f, problems, err := readPrefixes(path)
	if err != nil {
		t.fail(t.at.key(key), "%q %s; write a file of prefixes, one a line, or remove the key", path, err)
	}
	for _, p := range problems {
		t.errors.add(path, p)
	}
	t.lists[path] = f
	return f
}

// readPrefixes reads a file with one prefix per line. # begins a comment. It returns nil and an
// error if the file cannot be read, or the first of the lines with errors.
func readPrefixes(path string) (*PrefixFile, []Problem, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	f := &PrefixFile{Path: path}
	var problems []Problem
	wrongLines, line := 0, int32(0)
	for text := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		line++
		text, _, _ = strings.Cut(text, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, wrong := ParsePrefix(text)
		if wrong == "" {
			f.Prefixes, f.Lines = append(f.Prefixes, p), append(f.Lines, line)
			continue
		}
		if wrongLines++; wrongLines <= maxListProblems {
			problems = append(problems, Problem{File: path, Line: int(line), Text: wrong + "; " + AllowedPrefix(text)})
		}
	}
	if more := wrongLines - maxListProblems; more > 0 {
		problems = append(problems, Problem{File: path, Line: int(line), Text: fmt.Sprintf("%d more lines are no prefixes", more)})
	}
	if len(problems) > 0 {
		return nil, problems, nil
	}
	return f, nil, nil
}

// ReadLists returns a copy of the configuration with its files of prefixes read again, or the
// errors in them. A file that has not changed stays the same object.
func (c *Config) ReadLists() (*Config, error) {
	out := *c
	out.Services = slices.Clone(c.Services)
	read := make(map[string]*PrefixFile)
	var wrong Problems
	again := func(f *PrefixFile) *PrefixFile {
		if f == nil {
			return nil
		}
		if was := read[f.Path]; was != nil {
			return was
		}
		next, problems, err := readPrefixes(f.Path)
		if err != nil {
			problems = []Problem{{File: f.Path, Text: err.Error()}}
		}
		wrong = append(wrong, problems...)
		if next == nil || f.equal(next) {
			next = f
		}
		read[f.Path] = next
		return next
	}
	all := []*Access{&out.Access}
	for i := range out.Services {
		all = append(all, &out.Services[i].Access)
	}
	for _, a := range all {
		a.AllowFile, a.DenyFile = again(a.AllowFile), again(a.DenyFile)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return &out, nil
}

func (f *PrefixFile) equal(other *PrefixFile) bool {
	return f == other || f != nil && other != nil && f.Path == other.Path && slices.Equal(f.Prefixes, other.Prefixes) && slices.Equal(f.Lines, other.Lines)
}

// Equal reports whether the lists have the same prefixes in the same places.
func (a *Access) Equal(b *Access) bool {
	return a.Restricted() == b.Restricted() && slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny) &&
		a.AllowFile.equal(b.AllowFile) && a.DenyFile.equal(b.DenyFile)
}

// ParsePrefix parses a prefix, or an address, which is the prefix of this address alone. It returns
// what is wrong, or "".
func ParsePrefix(text string) (netip.Prefix, string) {
	shown := describe(text)
	address, length, hasLength := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return netip.Prefix{}, shown + " is not a prefix"
	case a.Zone() != "":
		return netip.Prefix{}, shown + " has a zone, which is valid on one machine only"
	case a.Is4In6():
		return netip.Prefix{}, shown + " is IPv4 in IPv6 form"
	case !hasLength:
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Sprintf("%s has the length %s; %s prefixes have 0 to %d", shown, describe(length), family(a), a.BitLen())
	case p != p.Masked():
		return netip.Prefix{}, fmt.Sprintf("%s has bits set behind its length", shown)
	}
	return p, ""
}

// AllowedPrefix returns what to write instead of a text that ParsePrefix refuses.
func AllowedPrefix(text string) string { return hintPrefix(text) + "allowed: " + allowedPrefix }

// hintPrefix returns what was probably meant by a text that is no prefix, in front of what is
// allowed.
func hintPrefix(text string) string {
	if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
		return fmt.Sprintf("write %q, or %q; ", p.Masked(), p.Addr())
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Is4In6() {
		return fmt.Sprintf("write %q; ", a.Unmap())
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return fmt.Sprintf("lists have no ports: write %q; ", at.Addr())
	}
	return hintName(text)
}

// access adds the differences between lists. Prefixes are counted, and the first few named: a
// list may have a hundred thousand.
func (d *diff) access(prefix string, old, new *Access) {
	d.prefixes(prefix+"allow", old.Allow, new.Allow)
	d.prefixes(prefix+"deny", old.Deny, new.Deny)
	d.prefixFile(prefix+"allow_file", old.AllowFile, new.AllowFile)
	d.prefixFile(prefix+"deny_file", old.DenyFile, new.DenyFile)
}

func (d *diff) prefixFile(name string, old, new *PrefixFile) {
	if was, is := old.path(), new.path(); was != is {
		d.add(false, "%s %s -> %s", name, was, is)
	} else if old != nil {
		d.prefixes(name+" "+is, old.Prefixes, new.Prefixes)
	}
}

func (f *PrefixFile) path() string {
	if f == nil {
		return "none"
	}
	return f.Path
}

func (d *diff) prefixes(name string, old, new []netip.Prefix) {
	if (old == nil) != (new == nil) && len(old)+len(new) == 0 {
		d.add(false, "%s %s -> %s", name, noneOrEmpty(old), noneOrEmpty(new))
		return
	}
	if slices.Equal(old, new) {
		return
	}
	had := make(map[netip.Prefix]bool, len(old))
	for _, p := range old {
		had[p] = true
	}
	var added, removed []netip.Prefix
	has := make(map[netip.Prefix]bool, len(new))
	for _, p := range new {
		if !had[p] && !has[p] {
			added = append(added, p)
		}
		has[p] = true
	}
	for _, p := range old {
		if had[p] && !has[p] {
			removed = append(removed, p)
			had[p] = false
		}
	}
	if len(added) > 0 {
		d.add(false, "%s: %d added: %s", name, len(added), firstFew(added))
	}
	if len(removed) > 0 {
		d.add(false, "%s: %d removed: %s", name, len(removed), firstFew(removed))
	}
}

func noneOrEmpty(list []netip.Prefix) string {
	if list == nil {
		return "none"
	}
	return "[]"
}

// firstFew formats the first prefixes of a list.
func firstFew(list []netip.Prefix) string {
	const most = 5
	texts := make([]string, 0, most)
	for _, p := range list[:min(most, len(list))] {
		texts = append(texts, p.String())
	}
	text := strings.Join(texts, " ")
	if len(list) > most {
		text += " ..."
	}
	return text
}

// accessSettings returns the settings of both tables of lists.
func accessSettings() (all []Setting) {
	for _, section := range []string{"access", "service.access"} {
		whom := "clients of all services"
		if section != "access" {
			whom = "clients of this service, which [access] must allow, too"
		}
		all = append(all,
			Setting{Table: section, Key: "allow", Kind: Prefixes, About: whom + " that may open connections. With allow or allow_file all others are denied; `[]` denies all"},
			Setting{Table: section, Key: "deny", Kind: Prefixes, About: whom + " that may not open connections. The longest prefix that contains the address decides; deny, if two are equal"},
			Setting{Table: section, Key: "allow_file", Kind: Text, Form: "an absolute path", check: checkListFile, Default: "",
				About: "file with further prefixes to allow, one a line; # begins a comment. Read at start, reload and `sluice access reload`"},
			Setting{Table: section, Key: "deny_file", Kind: Text, Form: "an absolute path", check: checkListFile, Default: "", About: "likewise to deny"})
	}
	return all
}

func checkListFile(path string) string {
	if path == "" {
		return "is empty"
	}
	return checkFile(path)
}
