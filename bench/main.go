// Command bench measures Sluice: `bench pipeline` the packet path alone, in memory, without root;
// `bench net` the daemon beside its peers, over veth; `bench flood` the daemon under floods.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"sluice/bench/flooding"
	"sluice/bench/loops"
)

const usage = `usage: bench VERB [flags]

verbs:
  pipeline   ns per packet of the pipeline, in memory, no root needed
  net        packets, connections and latency beside other balancers, over veth; needs root
  flood      what floods do to the connections of real clients; needs root
`

func main() {
	loops.RunIfChild() // the loops of package loops are this program, too
	flooding.RunIfChild()
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	var err error
	switch verb, args := os.Args[1], os.Args[2:]; verb {
	case "pipeline":
		err = pipelineVerb(args)
	case "net":
		err = netVerb(args)
	case "flood":
		err = floodVerb(args)
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "bench: no verb %q\n%s", verb, usage)
		os.Exit(2)
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
