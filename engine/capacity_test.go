package engine_test

import (
	"fmt"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestConnectionsAreTheBoxs: two workers fill up with connections of both families. What statistics
// show is never above the capacity. It is at least three quarters of it: in a fuller table unproven
// connections are removed after seconds, which this test may need.
func TestConnectionsAreTheBoxs(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 2, 2)
	web4, web6 := nat3(), svc{name: "web6", vip: vip6, backends: []string{"[2001:db8:a::11]:8080"}}
	web4.extra = "limits = {unproven = 1}"
	web6.extra = web4.extra
	lab.Start(2, config(web4, web6))
	capacity := lab.Stats().Tables.Capacity
	for n := range capacity + capacity/16 {
		frame := opening(int(n)).Frame()
		if n%4 == 3 {
			frame = packettest.TCP(fmt.Sprintf("[2001:db8:9::%x]:%d", n, 1024+n), "["+vip6+"]:80").Flags(syn).Frame()
		}
		lab.Arrive(enginetest.Clients, frame)
		if n%256 == 0 {
			lab.Quiet()
			lab.Collect()
		}
	}
	lab.Quiet()
	s := lab.Stats()
	if used := s.Tables.ConnectionsV4 + s.Tables.ConnectionsV6; used > capacity || used < capacity*3/4 || s.Displaced == 0 {
		t.Errorf("%d and %d connections of %d, %d displaced", s.Tables.ConnectionsV4, s.Tables.ConnectionsV6, capacity, s.Displaced)
	}
}
