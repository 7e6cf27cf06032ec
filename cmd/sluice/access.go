package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newAccess() *cobra.Command {
	cmd := cli.Parent("unknown command %q of access", "missing command of access")
	cmd.Use = "access"
	cmd.Short = "Deny and allow clients new connections by prefix"
	cmd.Long = "Access denies and allows clients new connections at run time, over reloads and restarts. What is set for a prefix\n" +
		"takes the place of what the lists of the file ([access], [service.access]) say about the same prefix. The longest\n" +
		"prefix that has a client's address decides; both the lists for all services and those of the service must allow it.\n" +
		"Running connections that are denied end: they are reset in nat and fullnat, and dropped in tun and dr."
	cmd.AddCommand(newSetAccess(api.AccessDeny), newSetAccess(api.AccessAllow), newListAccess(), newClearAccess(), newReloadAccess())
	return cmd
}

// newSetAccess returns the verb of an action.
func newSetAccess(action string) *cobra.Command {
	var flags daemonFlags
	var service string
	var within time.Duration
	cmd := &cobra.Command{
		Use:   action + " PREFIX",
		Short: map[string]string{api.AccessDeny: "Deny a prefix", api.AccessAllow: "Allow a prefix"}[action] + ", for all services or for one",
		Example: "  sluice access " + action + " 203.0.113.0/24 --for 10m\n  sluice access " + action + " 2001:db8::/32 --service web\n" +
			"  sluice access " + action + " 203.0.113.7",
		Args: cli.Arguments("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWithin("--for", within); err != nil {
				return err
			}
			entry, err := flags.client().SetAccess(cmd.Context(), api.AccessRequest{Prefix: args[0], Service: service, Action: action, ForS: within.Seconds()})
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), entry, func(w io.Writer) error { return accessTable(w, []api.AccessEntry{entry}) })
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&service, "service", "", "for this service only")
	cmd.Flags().DurationVar(&within, "for", 0, "for this time, e.g. 10m; 0: until it is cleared")
	return cmd
}

func newListAccess() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show what was set at run time, and the lists of the file",
		Example: "  sluice access list\n  sluice access list -o json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := flags.client().AccessLists(cmd.Context())
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), all, func(w io.Writer) error {
				return errors.Join(accessTable(w, all.Entries), accessLists(w, all.Lists))
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func newClearAccess() *cobra.Command {
	var flags daemonFlags
	var service string
	var everything bool
	cmd := &cobra.Command{
		Use:   "clear [PREFIX]",
		Short: "Remove what was set at run time, so that the file applies again",
		Long: "Clear removes what deny or allow has set for a prefix, for all services or for one, or, without a prefix, everything\n" +
			"that was set for a service or, with --all, everything. It shows what it has removed.",
		Example: "  sluice access clear 203.0.113.0/24\n  sluice access clear --service web\n  sluice access clear --all",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return fmt.Errorf("clear takes at most a PREFIX: %d arguments given", len(args))
			case everything == (len(args) > 0 || service != ""):
				return errors.New("clear takes either a PREFIX, --service or both, or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = append(args, "")
			cleared, err := flags.client().ClearAccess(cmd.Context(), api.AccessQuery{Prefix: args[0], Service: service})
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), cleared, func(w io.Writer) error { return accessTable(w, cleared) })
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&service, "service", "", "of this service only")
	cmd.Flags().BoolVar(&everything, "all", false, "remove everything that was set")
	return cmd
}

func newReloadAccess() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its files of prefixes again",
		Long: "Reload makes the daemon read the files that allow_file and deny_file name again, and shows what changed. It reads\n" +
			"nothing else. If a file has errors, they are shown and nothing changes. `sluice reload` and SIGHUP read them, too.",
		Example: "  sluice access reload",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := flags.client().ReloadAccess(cmd.Context())
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), result, func(w io.Writer) error {
				printReload(w, result)
				return nil
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// accessTable prints what was set at run time.
func accessTable(w io.Writer, all []api.AccessEntry) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "set at run time: none")
		return err
	}
	return table(w, "PREFIX\tACTION\tSERVICE\tENDS\tSINCE\tIN THE FILE", func(columns io.Writer) {
		for _, e := range all {
			fmt.Fprintf(columns, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Prefix, e.Action, cmp.Or(e.Service, "all"), deadlineText(e.Until), clock(e.Since), yesNo(e.Configured))
		}
	})
}

// accessLists prints the lists of the file.
func accessLists(w io.Writer, all []api.AccessList) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "lists of the file: none")
		return err
	}
	return table(w, "\nLISTS OF THE FILE\tALLOWED\tDENIED\tOTHERS\tALLOW_FILE\tDENY_FILE", func(columns io.Writer) {
		for _, l := range all {
			fmt.Fprintf(columns, "%s\t%d\t%d\t%s\t%s\t%s\n", cmp.Or(l.Service, "all"), l.Allow, l.Deny, l.Others, cmp.Or(l.AllowFile, "-"), cmp.Or(l.DenyFile, "-"))
		}
	})
}
