package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/top"
	"sluice/engine/api"
)

// onceColumns is the width of a frame if the output is not a terminal.
const onceColumns = 100

func newTop() *cobra.Command {
	var flags daemonFlags
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch services, backends, workers and drops live",
		Long: "Top shows services and backends with state, connections and rates, how busy each worker is, and drops by reason.\n" +
			"Services with problems come first. Keys: arrows or j k move, d drains and e enables a backend after a question,\n" +
			"/ filters, ? lists all keys, q quits. With --once, or if the output is not a terminal, it prints one frame.\n" +
			"NO_COLOR turns colours off; no information depends on them.",
		Example: "  sluice top\n  sluice top --once --interval 5s\n  sluice top -o json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond || interval > time.Hour {
				return cli.Usage(fmt.Errorf("--interval %v: must be 100ms to 1h", interval))
			}
			columns, terminal := terminalColumns(cmd.OutOrStdout())
			if !once && terminal && flags.output == formatTable {
				return top.New(api.NewClient(flags.socket), flags.socket, interval).Run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
			}
			figures, err := top.Once(cmd.Context(), flags.client(), interval)
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), describeTop(figures), func(w io.Writer) error {
				return top.Print(w, figures, columns)
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "print one frame as plain text and end")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how often to ask the daemon; rates are measured over this time")
	return cmd
}

// terminalColumns reports whether the output is a terminal, and its width: that of the terminal,
// else $COLUMNS, else onceColumns.
func terminalColumns(out io.Writer) (columns int, terminal bool) {
	if file, ok := out.(*os.File); ok && term.IsTerminal(file.Fd()) {
		if width, _, err := term.GetSize(file.Fd()); err == nil && width > 0 {
			return width, true
		}
		return onceColumns, true
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 40 {
		return n, false
	}
	return onceColumns, false
}

// topReport is the JSON that top prints.
type topReport struct {
	RxPPS        float64        `json:"rx_pps"`
	ForwardedPPS float64        `json:"forwarded_pps"`
	RepliedPPS   float64        `json:"replied_pps"`
	ToKernelPPS  float64        `json:"to_kernel_pps"`
	DroppedPPS   float64        `json:"dropped_pps"`
	BusyShare    []float64      `json:"busy_share"` // of each worker, over the interval
	Services     []ratedService `json:"services"`
	Stats        api.Stats      `json:"stats"`
}

func describeTop(f top.Figures) topReport {
	return topReport{f.Rx, f.Forwarded, f.Replied, f.ToKernel, f.Lost, f.Busy, withRates(f.Services, f.Rates), f.Stats}
}
