package metrics

import (
	_ "embed"
	"fmt"
	"strings"
)

// Alerts are Prometheus alert rules (YAML).
//
//go:embed sluice-alerts.yml
var Alerts []byte

// Dashboard is a Grafana dashboard (JSON).
//
//go:embed sluice-dashboard.json
var Dashboard []byte

// Reference returns Families in Markdown. README.md ends with it.
func Reference() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range Families {
		labels := ""
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, labels, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	return b.String()
}
