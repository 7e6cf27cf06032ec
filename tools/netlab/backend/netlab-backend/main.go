// Netlab-backend is a server for labs: HTTP, TCP echo and UDP. Each answer has the name of the
// backend and the client address that it saw. See package sluice/tools/netlab/backend.
package main

import (
	"os"

	"sluice/tools/netlab/backend"
)

func main() { os.Exit(backend.Main(os.Args[1:], os.Stdout, os.Stderr)) }
