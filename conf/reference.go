package conf

import (
	"fmt"
	"strings"
	"time"
)

// Reference returns Settings in Markdown. README.md is its output.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Every key of the configuration file\n\n" +
		"Written by `go test ./conf -run Reference -update` from conf.Settings. A key that is not listed here is an error.\n")
	for i, s := range Settings {
		if i == 0 || Settings[i-1].Table != s.Table {
			fmt.Fprintf(&b, "\n## %s\n\n| key | allowed | default | meaning |\n|---|---|---|---|\n", header(s.Table))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Key, cell(s.Allowed()), s.defaultText(), cell(s.meaning()))
	}
	return b.String()
}

// meaning returns the text about the key, after the types of check that use it.
func (s *Setting) meaning() string {
	if s.Types == nil {
		return s.About
	}
	return strings.Join(s.Types, ", ") + ": " + s.About
}

// cell escapes a text for a table cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// defaultText returns the default as in a file.
func (s *Setting) defaultText() string {
	switch v := s.Default.(type) {
	case int:
		return fmt.Sprintf("`%d`", v)
	case time.Duration:
		return fmt.Sprintf("`%q`", shortDuration(v))
	case string:
		return fmt.Sprintf("`%q`", v)
	}
	if s.Required {
		return "required"
	}
	return ""
}
