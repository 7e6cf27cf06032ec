// Command sluice is the load balancer and everything an operator says to it: `sluice run` is the
// daemon, `sluice check` reads a configuration, and the other verbs talk to a running daemon
// through its socket.
//
// Exit codes: 0 done, 1 the thing asked for failed, 2 the command line was wrong.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }
