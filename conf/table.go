package conf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/pipeline/service"
)

// table is one table of the file, read against the settings of its section. Methods that read a
// value report what is wrong with it and return the default instead.
type table struct {
	*report
	at      *place
	section string
	values  map[string]any
}

// open returns a table for a decoded value and reports the keys that its section does not have.
func (r *report) open(at *place, section string, values map[string]any) table {
	t := table{r, at, section, values}
	legal := settingsOf[section]
	if name, ok := values["name"].(string); ok && legal["name"] != nil && len(name) <= 64 {
		at.label = name // messages identify an element of an array by its name
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch {
		case legal[key] != nil:
		case r.errors.full():
			r.errors.unlisted++
		default:
			r.fail(at.key(key), "unknown key; %sallowed here: %s", r.suggest(section, key),
				strings.Join(slices.Sorted(maps.Keys(legal)), ", "))
		}
	}
	return t
}

// has reports whether the file has the key.
func (t table) has(key string) bool {
	_, ok := t.values[key]
	return ok
}

// setting returns the row of Settings. A missing row is a programming error.
func (t table) setting(key string) *Setting {
	s := settingsOf[t.section][key]
	if s == nil {
		panic("conf: no setting " + t.section + "." + key)
	}
	return s
}

// fallback returns the default of a key that is missing or invalid in the file.
func fallback[T any](s *Setting) T {
	v, _ := s.Default.(T)
	return v
}

// missing reports a required key that is missing.
func (t table) missing(s *Setting) {
	if s.Required {
		t.fail(t.at.key(s.Key), "is missing; %s", s.allowed())
	}
}

// one reads a single value. read returns what is wrong with it, or "".
func one[T any](t table, key string, read func(*Setting, any) (T, string)) T {
	s := t.setting(key)
	raw, ok := t.values[key]
	if !ok {
		t.missing(s)
		return fallback[T](s)
	}
	v, wrong := read(s, raw)
	if wrong != "" {
		t.fail(t.at.key(key), "%s; %s%s", wrong, s.hint(raw), s.allowed())
		return fallback[T](s)
	}
	return v
}

// list reads an array. It returns nil if the file does not have it, or if an element is invalid.
func list[T comparable](t table, key string, read func(*Setting, any) (T, string)) []T {
	s := t.setting(key)
	raw, ok := t.values[key]
	if !ok {
		t.missing(s)
		return nil
	}
	at := t.at.key(key)
	elements, ok := raw.([]any)
	if !ok {
		t.fail(at, "%s is not a list; %s%s", describe(raw), hintList(raw), s.allowed())
		return nil
	}
	if len(elements) == 0 {
		t.fail(at, "the list is empty; %s", s.allowed())
	}
	all := make([]T, 0, len(elements))
	seen := make(map[T]bool, len(elements))
	for i, element := range elements {
		v, wrong := read(s, element)
		if wrong == "" && seen[v] {
			wrong = fmt.Sprintf("%v is listed twice", v)
		}
		if wrong != "" {
			t.fail(at.item(i), "%s; %s%s", wrong, s.hint(element), s.allowed())
			continue
		}
		seen[v] = true
		all = append(all, v)
	}
	if len(all) < max(1, len(elements)) {
		return nil
	}
	return all
}

func (t table) integer(key string) int            { return one(t, key, readInteger) }
func (t table) integers(key string) []int         { return list(t, key, readInteger) }
func (t table) fraction(key string) float64       { return one(t, key, readFraction) }
func (t table) duration(key string) time.Duration { return one(t, key, readDuration) }
func (t table) word(key string) string            { return one(t, key, readWord) }
func (t table) text(key string) string            { return one(t, key, readText) }
func (t table) address(key string) netip.Addr     { return one(t, key, readAddress) }
func (t table) ports(key string) service.Ports    { return one(t, key, readPorts) }

// table opens a table in this one. A table that the file lacks is empty, and its place is this
// table's.
func (t table) table(key string) table {
	s := t.setting(key)
	at := t.at.key(key)
	raw, ok := t.values[key]
	if !ok {
		return t.open(at, s.path(), nil)
	}
	values, ok := raw.(map[string]any)
	if !ok {
		t.fail(at, "%s is not a table; write [%s] once", describe(raw), s.path())
	}
	return t.open(at, s.path(), values)
}

// tables opens the tables of an array, [[key]] or key = [{...}].
func (t table) tables(key string) []table {
	s := t.setting(key)
	at := t.at.key(key)
	raw, ok := t.values[key]
	elements, isArray := elementsOf(raw)
	if ok && !isArray {
		t.fail(at, "%s is not an array of tables; write [[%s]]", describe(raw), s.path())
		return nil
	}
	if len(elements) == 0 && s.Required {
		t.none(at, s, ok)
	}
	all := make([]table, 0, len(elements))
	for i, element := range elements {
		if values, ok := element.(map[string]any); ok {
			all = append(all, t.open(at.item(i), s.path(), values))
		} else {
			t.fail(at.item(i), "%s is not a table; write [[%s]]", describe(element), s.path())
		}
	}
	return all
}

// none reports an array without elements. At the top level [] means that there are none on
// purpose: a file that lost some of its lines never has it.
func (t table) none(at *place, s *Setting, written bool) {
	switch {
	case t.section != "" && written:
		t.fail(at, "is empty; write at least one [[%s]]", s.path())
	case t.section != "":
		t.fail(at, "is missing; write at least one [[%s]]", s.path())
	case !written:
		t.fail(at, "is missing; write at least one [[%s]], or %s = [] for none", s.path(), s.Key)
	}
}

// elementsOf returns the elements of both kinds of array that the toml library makes.
func elementsOf(raw any) (elements []any, isArray bool) {
	switch v := raw.(type) {
	case []any:
		return v, true
	case []map[string]any:
		for _, element := range v {
			elements = append(elements, element)
		}
		return elements, true
	}
	return nil, false
}

func readInteger(s *Setting, raw any) (int, string) {
	n, ok := raw.(int64)
	if !ok {
		return 0, describe(raw) + " is not an integer"
	}
	if n < s.Min || n > s.Max {
		return 0, fmt.Sprintf("%d is out of range", n)
	}
	return int(n), ""
}

func readFraction(_ *Setting, raw any) (float64, string) {
	v, ok := raw.(float64)
	if n, whole := raw.(int64); whole {
		v, ok = float64(n), true
	}
	switch {
	case !ok:
		return 0, describe(raw) + " is not a number"
	case !(v >= 0.01 && v <= 1):
		return 0, strconv.FormatFloat(v, 'g', -1, 64) + " is out of range"
	}
	return v, ""
}

func readDuration(s *Setting, raw any) (time.Duration, string) {
	text, ok := raw.(string)
	if !ok {
		return 0, describe(raw) + " is not a string with a unit"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Sprintf("%q is not a duration", text)
	}
	if d == 0 && s.OrZero {
		return 0, ""
	}
	if int64(d) < s.Min || int64(d) > s.Max {
		return 0, fmt.Sprintf("%q is out of range", text)
	}
	return d, ""
}

func readWord(s *Setting, raw any) (string, string) {
	text, ok := raw.(string)
	if !ok {
		return "", describe(raw) + " is not a string"
	}
	if !slices.Contains(s.Words, text) {
		return "", fmt.Sprintf("%q is unknown", text)
	}
	return text, ""
}

func readText(s *Setting, raw any) (string, string) {
	text, ok := raw.(string)
	if !ok {
		return "", describe(raw) + " is not a string"
	}
	return text, s.check(text)
}

func readAddress(_ *Setting, raw any) (netip.Addr, string) {
	text, ok := raw.(string)
	if !ok {
		return netip.Addr{}, describe(raw) + " is not a string"
	}
	return parseAddress(text)
}

// readPorts takes 80 and "80" alike. The zero Ports, which no file can hold, stands for none.
func readPorts(_ *Setting, raw any) (service.Ports, string) {
	var text string
	switch v := raw.(type) {
	case int64:
		text = strconv.FormatInt(v, 10)
	case string:
		text = v
	default:
		return service.Ports{}, describe(raw) + " must be an integer or a string"
	}
	p, err := service.ParsePorts(text)
	if err != nil {
		if _, ok := raw.(int64); ok {
			return service.Ports{}, text + " is out of range"
		}
		return service.Ports{}, fmt.Sprintf("%q is not a port", text)
	}
	return p, ""
}

// describe names a value in messages by what the operator wrote.
func describe(raw any) string {
	switch v := raw.(type) {
	case string:
		if r := []rune(v); len(r) > 40 {
			v = string(r[:40]) + "..."
		}
		return strconv.Quote(v)
	case int64, bool:
		return fmt.Sprint(v)
	case float64:
		return "the float " + strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return "a date or time"
	case []any:
		return "a list"
	case []map[string]any:
		return "an array of tables"
	}
	return "a table"
}
