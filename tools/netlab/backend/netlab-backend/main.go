// Netlab-backend is a real server for labs: HTTP, TCP echo and UDP that say who answered and whom
// they saw as the client. See package sluice/tools/netlab/backend.
package main

import (
	"os"

	"sluice/tools/netlab/backend"
)

func main() { os.Exit(backend.Main(os.Args[1:], os.Stdout, os.Stderr)) }
