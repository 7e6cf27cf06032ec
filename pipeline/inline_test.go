package pipeline_test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// mustInline lists the calls on the way of every packet that the compiler has to write out, by the file they stand in:
// each is a few instructions, and a call would cost more than what it does. Those below the line are too big to be
// written out without cmd/sluice/default.pgo, which says that they are worth it.
var mustInline = map[string][]string{
	"pipeline/packet/parse.go": {"be16", "be32", "be64", "EthernetV4", "TCPHeader", "AddrFrom4", "Sum.Add", "Sum.Fold",
		"parseTCP"},
	"pipeline/pipeline.go": {"single", "conn.(*Table).Home", "conn.Fetch", "(*Processor).table", "flow.Owner",
		"flow.(*Seed).Hash", "(*Processor).isMine", "(*lookup).get"},
	"pipeline/forward.go": {"isNew", "midway", "rewrite.SetLink", "rewrite.DecTTL",
		"conn.(*Table).Find", "(*Processor).deliver", "(*Frame).send"},
	"pipeline/conn/table.go": {"(*Table).conn", "(*Table).entry4", "(*Conn).Expired", "isZero"},
	"pipeline/rewrite/nat.go": {"packet.V4TCP", "packet.V4UDP", "put16", "put32", "fix", "packet.Diff16", "packet.Diff32",
		"packet.Diff.Update", "packet.Addr.V4"},
	"pipeline/rewrite/dr.go": {"packet.Ethernet", "(*Link).macs"},
}

// The compiler itself is asked, about the binary as it is shipped.
func TestHotCallsAreInlined(t *testing.T) {
	build := exec.Command("go", "build", "-o", os.DevNull, "-gcflags=sluice/pipeline/...=-m", "./cmd/sluice")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	inlined := make(map[[2]string]bool)
	for _, line := range regexp.MustCompile(`(?m)^(\S+\.go):\d+:\d+: inlining call to (\S+)$`).FindAllSubmatch(out, -1) {
		inlined[[2]string{string(line[1]), string(line[2])}] = true
	}
	for file, calls := range mustInline {
		for _, call := range calls {
			if !inlined[[2]string{file, call}] {
				t.Errorf("%s: %s is called, not inlined: make it smaller, or the profile anew: go run ./bench pipeline -cpuprofile cmd/sluice/default.pgo",
					file, call)
			}
		}
	}
}
