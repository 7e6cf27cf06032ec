// Command inline checks that the compiler inlines the calls that every packet makes: it builds
// cmd/sluice as it is shipped, with its profile (cmd/sluice/default.pgo), and reads what the
// compiler reports about inlining. `make lint` and `make test` run it. Exit code 1 names each call
// that is not inlined.
//
// The compiler inlines a larger function only if the profile calls it hot, and the profile names
// functions. After renaming one, or when a call is reported, either make the function smaller or
// measure the profile again on a quiet machine:
//
//	go run ./bench pipeline -cpuprofile cmd/sluice/default.pgo
package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
)

// mustInline lists, by file, the calls that must be inlined: each is a few instructions, and a call
// would cost more than the function does.
var mustInline = map[string][]string{
	"pipeline/packet/fast_parse.go": {"be16", "be32", "be64", "le32", "le64", "fastParse"},
	"pipeline/fastpath.go": {"packet.HeadersAt", "packet.(*Headers).MaybeIPv4", "packet.(*Headers).Ends4", "packet.(*Headers).Ends6",
		"packet.FastKind.Proto", "packet.AddrFrom4", "servicemap.(*Endpoints).Get4", "servicemap.IsService", "flow.(*Seed).Hash",
		"(*Processor).owns", "conn.(*Table).Home", "conn.PackKey", "conn.(*Table).AtHome4", "conn.(*Table).AtHome6",
		"conn.(*Conn).Expired", "packet.(*Headers).Length4", "packet.(*Headers).TTL4", "(*Frame).headers", "(*Processor).countIn",
		"(*Frame).finish", "rewrite.(*End).In4", "rewrite.(*Link).Apply", "rewrite.(*Link).DR4"},
	"pipeline/rewrite/prepared.go": {"applyFolded", "applyFoldedUDP", "(*Link).macs"},
	"pipeline/pipeline.go":         {"conn.Fetch", "conn.FetchNext", "(*Processor).fetch"},
	"pipeline/ownership.go":        {"flow.Owner"},
	"pipeline/conn/table.go":       {"(*Table).conn", "(*Table).entry4", "(*Table).line4", "(*entry4).client", "isZero"},
	// Of new connections.
	"pipeline/slowpath.go":   {"isNew", "midConnection", "conn.Key.pack"},
	"pipeline/connection.go": {"counter.(*Loads).Add", "conn.State.Next", "conn.(*Table).Home"},
}

// report matches a line of the compiler's output: with -trimpath in GOFLAGS the module's name is in
// front of the file.
var report = regexp.MustCompile(`(?m)^(?:\./|sluice/)?(\S+\.go):\d+:\d+: inlining call to (\S+)$`)

func main() {
	out, err := exec.Command("go", "build", "-o", os.DevNull, "-gcflags=sluice/pipeline/...=-m", "./cmd/sluice").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s\ninline: go build: %v\n", out, err)
		os.Exit(1)
	}
	missing := notInlined(out)
	for _, call := range missing {
		fmt.Fprintf(os.Stderr, "%s is not inlined: make it smaller, or measure the profile again: "+
			"go run ./bench pipeline -cpuprofile cmd/sluice/default.pgo\n", call)
	}
	if len(missing) > 0 {
		os.Exit(1)
	}
}

// notInlined returns the calls of mustInline that the compiler's output does not report as inlined.
func notInlined(out []byte) (missing []string) {
	inlined := make(map[string]bool)
	for _, m := range report.FindAllSubmatch(out, -1) {
		inlined[string(m[1])+": "+string(m[2])] = true
	}
	for file, calls := range mustInline {
		for _, call := range calls {
			if name := file + ": " + call; !inlined[name] {
				missing = append(missing, name)
			}
		}
	}
	slices.Sort(missing)
	return missing
}
