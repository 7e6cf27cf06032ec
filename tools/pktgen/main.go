// Command pktgen sends packets, receives them, and says what became of them: how many, how fast,
// which were lost, how late. README.md beside this file shows how to use it; the packages below it
// are the same as a library.
//
// Exit codes: 0 done, 1 the thing asked for failed, 2 the command line was wrong.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }
