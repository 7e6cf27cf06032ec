package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

// completionTimeout is how long a shell waits for the daemon after the tab key.
const completionTimeout = 2 * time.Second

// completeWords registers shell completion of arguments: names of services and backends from the
// running daemon, and files. Call it when all commands have been added.
func completeWords(root *cobra.Command) {
	for _, path := range []string{"drain", "enable", "disable", "weight", "overrides clear"} {
		commandAt(root, path).ValidArgsFunction = completeBackend
	}
	for _, path := range []string{"health", "health freeze", "health thaw"} {
		commandAt(root, path).ValidArgsFunction = completeService
	}
	for _, path := range []string{"conns", "access deny", "access allow", "access clear"} {
		_ = commandAt(root, path).RegisterFlagCompletionFunc("service", completeService)
	}
	for _, path := range []string{"apply", "simulate", "import keepalived", "import ipvsadm"} {
		commandAt(root, path).ValidArgsFunction = nil // files, as shells do by themselves
	}
	cli.EachCommand(root, func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("output") != nil {
			_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
		}
		if cmd.Flags().Lookup("config") != nil {
			_ = cmd.MarkFlagFilename("config", "toml")
		}
		takesFiles := strings.Contains(cmd.Use, "FILE") || strings.Contains(cmd.Use, ".pcap")
		if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() && !takesFiles {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	})
}

// commandAt returns the command with that path. It panics if there is none.
func commandAt(root *cobra.Command, path string) *cobra.Command {
	cmd, rest, err := root.Find(strings.Fields(path))
	if err != nil || len(rest) > 0 {
		panic("no command " + path)
	}
	return cmd
}

// servicesFor returns the services of the daemon that the command line names, or nil if none
// answers.
func servicesFor(cmd *cobra.Command) []api.Service {
	socket := api.DefaultSocket
	if flag := cmd.Flags().Lookup("socket"); flag != nil {
		socket = flag.Value.String()
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	services, _ := api.NewClient(socket).List(ctx) // no daemon, no completion
	return services
}

// completeService completes a SERVICE, with a description.
func completeService(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		for _, s := range servicesFor(cmd) {
			names = append(names, cobra.CompletionWithDesc(s.Name, s.Key()+" "+s.Mode))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeBackend completes a SERVICE and a BACKEND of it, with its state as the description.
func completeBackend(cmd *cobra.Command, args []string, partial string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return completeService(cmd, args, partial)
	}
	var names []string
	for _, s := range servicesFor(cmd) {
		if len(args) > 1 || s.Name != args[0] && s.Key() != args[0] {
			continue
		}
		for _, b := range s.Backends {
			names = append(names, cobra.CompletionWithDesc(b.Endpoint(), b.State))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
