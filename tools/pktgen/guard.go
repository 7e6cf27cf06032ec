package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sluice/tools/pktgen/port"
)

// addForce adds the flag --force, once to each verb.
func addForce(cmd *cobra.Command) {
	if cmd.Flags().Lookup("force") == nil {
		cmd.Flags().Bool("force", false, "also use an interface that has this host's default route")
	}
}

// guard returns an error if an end is the interface by which this host reaches the world: a
// receiver takes all its TCP and UDP, remote logins included, and a sender floods the networks
// behind it. An interface in a network namespace that is named is not this host's.
func guard(cmd *cobra.Command, ends ...*endFlags) error {
	if force, err := cmd.Flags().GetBool("force"); err != nil || force {
		return err
	}
	for _, f := range ends {
		if f.end.Affinity.Netns != "" {
			continue
		}
		has, err := port.HasDefaultRoute(f.end.Interface)
		if err != nil {
			return err
		}
		if has {
			return fmt.Errorf("interface %s has this host's default route: the host could lose its connections, and the networks behind it would be flooded; name another interface (--%s), one in a network namespace, or add --force",
				f.end.Interface, f.flag)
		}
	}
	return nil
}
