package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// format is the value of -o.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

func (f *format) add(cmd *cobra.Command) {
	*f = formatTable
	cmd.Flags().VarP(f, "output", "o", "how to print: table or json")
}

// String, Set and Type implement pflag.Value.
func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "FORMAT" }

func (f *format) Set(s string) error {
	switch format(s) {
	case formatTable, formatJSON:
		*f = format(s)
		return nil
	}
	return fmt.Errorf("%q is not one of table, json", s)
}

// print writes value as JSON, or calls table to write it for people.
func (f format) print(w io.Writer, value any, table func(io.Writer) error) error {
	if f == formatTable {
		return table(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// tooLong is a time since which nothing is known, in seconds: a hundred years.
const tooLong = 100 * 365 * 24 * 3600

// ago writes seconds in the two units that matter: 42s, 3m10s, 5h02m, 2d04h; "" for a time that nobody knows.
func ago(seconds float64) string {
	if seconds < 0 || seconds > tooLong {
		return ""
	}
	s := int(seconds)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/(24*3600), s/3600%24)
}

// oneLine is text from elsewhere, a backend's words among it, fit for a line of a table or a terminal: control
// characters, which could move the cursor or worse, become blanks.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
}
