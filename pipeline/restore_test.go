package pipeline_test

import (
	"testing"

	"sluice/pipeline/conn"
	"sluice/pipeline/packet/packettest"
)

// TestRestoreDoubted: the client of a connection has sent RST, and the process ended before the
// backend had answered its RST probe. The next process asks again, and believes the answer.
func TestRestoreDoubted(t *testing.T) {
	for _, genuine := range []bool{true, false} {
		former := newWorld(t, nat())
		client := "192.0.2.7:1000"
		former.in(packettest.TCP(client, web4).Flags(syn))
		former.out(packettest.TCP("10.0.0.11:8080", client).Flags(syn | ack))
		former.ends(former.in(packettest.TCP(client, web4)), "forward")
		former.ends(former.in(packettest.TCP(client, web4).Flags(rst)), "forward")
		w := newWorld(t, former.svcs...)
		for _, c := range former.entries(0, 4) {
			if !w.procs[0].Restore(w.tables, &conn.Entry{Conn: c, Client: addr("192.0.2.7"), BackendAddr: addr("10.0.0.11")}, w.now) {
				t.Fatal("not restored")
			}
		}
		want := conn.Established
		if genuine {
			w.confirmRST()
			want = conn.Close
		} else if n := w.watchAlive(5000); n == 0 {
			t.Error("the backend is not asked")
		}
		if all := w.entries(0, 4); len(all) != 1 || all[0].State != want {
			t.Errorf("genuine %t: %v, want one in %s", genuine, all, want)
		}
	}
}
