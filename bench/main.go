// Command bench measures Sluice: `bench pipeline` the packet path alone, in memory, without root.
package main

import (
	"flag"
	"fmt"
	"os"
)

const usage = `usage: bench VERB [flags]

verbs:
  pipeline   ns per packet of the pipeline, in memory, no root needed
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	var err error
	switch verb, args := os.Args[1], os.Args[2:]; verb {
	case "pipeline":
		err = pipelineVerb(args)
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "bench: no verb %q\n%s", verb, usage)
		os.Exit(2)
	}
	if err == flag.ErrHelp {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
