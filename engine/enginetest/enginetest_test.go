package enginetest_test

import (
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/tools/leaks"
)

func TestMain(m *testing.M) { leaks.Main(m) }

const web = `
[[service]]
name = "web"
address = "198.51.100.10"
port = 80
protocol = "tcp"
mode = "nat"
scheduler = "rr"
  [[service.backend]]
  address = "10.0.0.11"
  port = 8080
`

// TestThereAndBack checks that a frame passes through the engine and leaves by the other port,
// changed as required.
func TestThereAndBack(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, web)
	in := packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").Flags(2)
	sent := lab.Send(enginetest.Clients, 0, in.Frame())
	if len(sent) != 1 || sent[0].Port != enginetest.Backends || sent[0].Queue != 0 {
		t.Fatalf("sent %+v, want one frame by the backends' port", sent)
	}
	want := in.To("10.0.0.11:8080").TTL(63).MACs(enginetest.PortMAC(enginetest.Backends), enginetest.HostMAC(11))
	if diff := packettest.Diff(want.Frame(), sent[0].Frame); diff != "" {
		t.Error(diff)
	}
}
