// Command pktgen sends packets, receives them, and reports how many arrived, how fast, how many
// were lost, and their latency. README.md shows how to use it. The packages below this directory
// are its library.
//
// Exit codes: 0 done, 1 the command failed, 2 the command line was wrong.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }
