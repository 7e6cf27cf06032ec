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
