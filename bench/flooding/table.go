package flooding

import (
	"fmt"
	"strings"
)

// Table returns the results as a Markdown table.
func Table(all []Result) string {
	var t strings.Builder
	t.WriteString("| case | packets/s | seconds | entries | idle | late without | late with | broken | own succeed | calm after | missed |\n")
	t.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n")
	for _, r := range all {
		fmt.Fprintf(&t, "| %s | %.0f | %.0f | %d | %.0f %% | %s | %s | %d of %d | %.1f %% | %.1f s | %s |\n",
			r.Name, r.SentPPS, r.FloodS, r.Entries, 100*r.Idle, late(r.Before), late(r.During), r.Broken, r.Live,
			100*r.Own.OKShare(), r.CalmS, strings.Join(r.Missed, "; "))
	}
	return t.String()
}

// late returns "3 of 12000".
func late(o Opened) string { return fmt.Sprintf("%d of %d", o.Late+o.Failed, o.Asked) }
