package conf

import (
	"fmt"
	"strings"
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

// cell escapes a text for a table cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
