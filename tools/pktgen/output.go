package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sluice/tools/pktgen/report"
)

// outputFlags select the output of the result.
type outputFlags struct {
	format string
	plot   string
	quiet  bool
}

func (f *outputFlags) add(cmd *cobra.Command) {
	f.format = "text"
	formats := func(text string) (string, error) {
		if text == "text" || text == "json" {
			return text, nil
		}
		return "", fmt.Errorf("%q is not one of text, json", text)
	}
	cmd.Flags().VarP(newValue(&f.format, f.format, "FORMAT", formats), "output", "o", "how to print the result: text or json")
	cmd.Flags().StringVar(&f.plot, "plot", "", "also draw the result as SVG into this file")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "no progress on stderr")
}

// progress writes to stderr, or nowhere.
func (f *outputFlags) progress(cmd *cobra.Command, receives bool) *report.Progress {
	out := cmd.ErrOrStderr()
	if f.quiet {
		out = io.Discard
	}
	return report.NewProgress(out, receives)
}

// document is a result with the parameters of the run.
type document struct {
	Command string `json:"command"`
	Result  any    `json:"result"`
}

// print writes the result, and the plot if one was requested.
func (f *outputFlags) print(cmd *cobra.Command, result any, text, draw func(io.Writer) error) error {
	if f.plot != "" {
		if err := plot(f.plot, draw); err != nil {
			return err
		}
	}
	if f.format == "json" {
		return report.JSON(cmd.OutOrStdout(), document{Command: "pktgen " + strings.Join(os.Args[1:], " "), Result: result})
	}
	return text(cmd.OutOrStdout())
}

// shown lists the flags that the title of a plot has, and how: those of the command that have
// another value than unsaid.
var shown = []struct{ flag, format, unsaid string }{
	{"protocol", "%s", ""}, {"destination", "to %s", ""}, {"size", "size %s", ""}, {"flows", "flows %s", ""}, {"model", "%s", "round"},
	{"rate", "rate %s", ""}, {"speed", "speed %s", "1"}, {"loops", "loops %s", "1"}, {"count", "%s frames", "0"}, {"highest", "from %s", "max"},
	{"duration", "%s", "0s"}, {"resolution", "resolution %s", ""}, {"allowed-loss", "allowed loss %s", "0"}, {"attempts", "attempts %s", "1"},
	{"backend", "sender %s", "auto"}, {"receiver", "receiver %s", "kernel"},
}

// parameters returns the parameters of a command for the title of its plot.
func parameters(cmd *cobra.Command) string {
	parts := cmd.Flags().Args()
	for _, s := range shown {
		if flag := cmd.Flags().Lookup(s.flag); flag != nil && flag.Value.String() != "" && flag.Value.String() != s.unsaid {
			parts = append(parts, fmt.Sprintf(s.format, flag.Value))
		}
	}
	return cmd.CommandPath() + ": " + strings.Join(parts, ", ")
}

func plot(path string, draw func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	if err := draw(file); err != nil {
		file.Close()
		return fmt.Errorf("--plot %s: %w", path, err)
	}
	return file.Close()
}
