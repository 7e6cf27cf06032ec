package pipeline_test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// mustInline lists the calls on the way of every packet that the compiler has to write out, by the
// file they stand in: each is a few instructions, and a call would cost more than what it does.
var mustInline = map[string][]string{
	"pipeline/packet/fast_parse.go": {"be16", "be32", "be64", "le32", "le64", "fastParse"},
	"pipeline/express.go": {"packet.HeadersAt", "packet.(*Headers).MaybeIPv4", "packet.(*Headers).Ends4", "packet.(*Headers).Ends6",
		"packet.FastKind.Proto", "packet.AddrFrom4", "(*lookup).get4", "single", "flow.(*Seed).Hash", "(*Processor).isMine",
		"conn.(*Table).Home", "conn.PackKey", "conn.(*Table).AtHome4", "conn.(*Table).AtHome6", "conn.(*Conn).Expired",
		"packet.(*Headers).Length4", "packet.(*Headers).TTL4", "(*Frame).headers", "(*Processor).countIn", "(*Frame).depart",
		"rewrite.(*End).In4", "rewrite.(*Link).Apply", "rewrite.(*Link).DR4"},
	"pipeline/rewrite/prepared.go": {"grow", "growUDP", "(*Link).macs"},
	"pipeline/pipeline.go":         {"conn.Fetch", "conn.FetchNext", "(*Processor).fetch", "flow.Owner"},
	"pipeline/conn/table.go":       {"(*Table).conn", "(*Table).entry4", "(*Table).line4", "(*entry4).client", "isZero"},
	// Of new connections.
	"pipeline/forward.go":    {"isNew", "midway", "conn.Key.pack"},
	"pipeline/connection.go": {"counter.(*Loads).Add", "conn.State.Next", "conn.(*Table).Home"},
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
