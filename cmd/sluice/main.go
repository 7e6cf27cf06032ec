// Command sluice is the load balancer and its command line: `sluice run` is the daemon, `sluice
// check` checks a configuration, and most other verbs talk to a running daemon through its socket.
//
// Exit codes: 0 done, 1 failed, 2 invalid command line.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }
