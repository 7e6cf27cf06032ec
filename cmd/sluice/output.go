package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

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
	cmd.Flags().VarP(f, "output", "o", "output format: table or json")
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

// print writes value as JSON, or calls table to write it as text.
func (f format) print(w io.Writer, value any, table func(io.Writer) error) error {
	if f == formatTable {
		return table(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// table prints a head and the rows that rows prints, in columns separated by tabs.
func table(w io.Writer, head string, rows func(columns io.Writer)) error {
	out := bufio.NewWriter(w)
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, head)
	rows(columns)
	return errors.Join(columns.Flush(), out.Flush())
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
