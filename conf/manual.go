package conf

import (
	"fmt"
	"strings"
)

// Manual returns Settings as the page sluice.toml(5), in the language of man(7).
func Manual(version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH SLUICE.TOML 5 \"\" \"Sluice %s\" Sluice\n", roff(version))
	b.WriteString(".SH NAME\nsluice.toml \\- configuration of the load balancer Sluice\n" +
		".SH DESCRIPTION\n" + roff("The file is TOML, by default /etc/sluice/sluice.toml. `sluice check` reads it as the daemon does and lists all errors. "+
		"A key that is not listed here is an error. Examples are in /usr/share/doc/sluice/examples.") + "\n")
	for i, s := range Settings {
		if i == 0 || Settings[i-1].Table != s.Table {
			title := "TOP LEVEL"
			if s.Table != "" {
				title = header(s.Table)
			}
			fmt.Fprintf(&b, ".SH \"%s\"\n", roff(title))
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(s.Key), roff(s.meaning()))
		details := "Allowed: " + s.Allowed() + "."
		if text := strings.Trim(s.defaultText(), "`"); text == "required" {
			details += " Required."
		} else if text != "" {
			details += " Default: " + text + "."
		}
		fmt.Fprintf(&b, ".br\n%s\n", roff(details))
	}
	b.WriteString(".SH SEE ALSO\n.BR sluice (8),\n.BR sluice\\-run (8),\n.BR sluice\\-check (8)\n")
	return b.String()
}

// roff escapes a text, so that it is not read as commands.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
