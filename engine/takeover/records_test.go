package takeover_test

import (
	"strings"
	"testing"

	"sluice/engine/enginetest"
	"sluice/engine/takeover"
)

// TestOtherTables: the former process had other connection tables, and was killed. This one starts
// without its connections, and the status says why.
func TestOtherTables(t *testing.T) {
	const config = `
[[service]]
name = "web"
address = "192.0.2.1"
port = 80
protocol = "tcp"
mode = "nat"
[[service.backend]]
address = "10.0.0.11"
port = 80
`
	before := enginetest.New(t, 1, 1)
	before.Start(1, config)
	takeover.SetLayoutSuffix("other")
	t.Cleanup(func() { takeover.SetLayoutSuffix("") })
	after := enginetest.New(t, 1, 1)
	before.Close()
	after.Inherit(before.Platform)
	after.Start(1, config)
	s, err := after.Engine.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Takeover == nil || !strings.Contains(s.Takeover.ConnectionsError, "other connection tables") {
		t.Errorf("status says that %+v was taken over", s.Takeover)
	}
}
