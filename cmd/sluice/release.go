package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/conf"
	"sluice/engine/steer"
)

func newRelease() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Give the kernel the packets that no daemon takes",
		Long: "Release ends what [engine] on_stop = \"drop\" has left: it detaches the XDP programs of a daemon that no longer runs\n" +
			"from the file's ports, and removes the files that hold them. Packets for services then go to the kernel, which\n" +
			"answers them if it has their address. It changes nothing at a port that a running daemon has, and exits with 1.",
		Example: "  sluice release",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			runtime.LockOSThread() // netlink is that of the thread's namespace
			defer runtime.UnlockOSThread()
			cfg, _, err := conf.Load(configPath, nil)
			if err != nil {
				return err
			}
			var errs []error
			for _, p := range cfg.Ports {
				found, err := steer.Release(cfg.Engine.BPFDir, p.Name)
				switch {
				case err != nil:
					errs = append(errs, err)
				case found:
					fmt.Fprintf(cmd.OutOrStdout(), "%s: released, the kernel has its packets\n", p.Name)
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing to release\n", p.Name)
				}
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	return cmd
}
