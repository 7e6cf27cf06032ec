package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// writeList writes a file of prefixes.
func writeList(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAccessLists checks the lists of a file: a denied client is dropped and counted under the
// service, explain and trace name the list and the prefix, and a list with errors changes nothing.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deny.txt")
	writeList(t, path, "# none\n203.0.113.0/24\n192.0.2.128/25\n")
	lists := fmt.Sprintf("[access]\ndeny_file = %q\n", path)
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, lists+config(nat3(), svc{name: "closed", port: "81", extra: "[service.access]\nallow = []\n", backends: nat3().backends}))
	open := func(client, port string, want int) {
		t.Helper()
		if n := len(lab.Send(enginetest.Clients, 0, packettest.TCP(client, vip4+":"+port).Flags(syn).Frame())); n != want {
			t.Errorf("%s to port %s: %d frames were sent, want %d", client, port, n, want)
		}
	}
	open("192.0.2.7:40000", "80", 1)
	open("192.0.2.200:40000", "80", 0)
	open("192.0.2.7:40000", "81", 0)
	dropped(t, lab.Stats(), "access_denied", 2)
	services, err := lab.Engine.List(context.Background())
	if err != nil || services[0].AccessDenied != 1 || services[1].AccessDenied != 1 {
		t.Errorf("%v: denied %d and %d, want 1 and 1", err, services[0].AccessDenied, services[1].AccessDenied)
	}
	says(t, explain(t, lab, "tcp 192.0.2.200:5 -> 198.51.100.10:80"), "! access: denied by 192.0.2.128/25 of [access] "+path+":3\n", "= dropped: ")
	says(t, explain(t, lab, "tcp 192.0.2.7:5 -> 198.51.100.10:81"), "! access: no prefix of [service.access] allow has 192.0.2.7\n")
	says(t, explain(t, lab, "tcp 192.0.2.7:5 -> 198.51.100.10:80"), "  access: no prefix of [access] has 192.0.2.7\n", "  schedule: ")

	writeList(t, path, "192.0.2.0/24\nmine\n")
	if _, err := lab.Reload(lists + config(nat3())); err == nil || !strings.Contains(err.Error(), path+`:2: "mine" is not a prefix`) {
		t.Errorf("%v", err)
	}
	open("192.0.2.8:40000", "80", 1)
	lab.Quiet()
}

// TestAccessResets checks that both ends of connections are reset that a new list denies, and no
// others, by all workers.
func TestAccessResets(t *testing.T) {
	t.Parallel()
	const flows = 40
	for _, mode := range []string{"nat", "fullnat"} {
		t.Run(mode, func(t *testing.T) {
			s := nat3()
			if s.mode = mode; mode == "fullnat" {
				s.extra = fmt.Sprintf("source = [%q]\n", fullnatFamilies[0].source)
			}
			lab := enginetest.New(t, 2, 1)
			lab.Start(2, config(s))
			clientOf := func(n int) string { return fmt.Sprintf("192.0.2.%d:%d", 1+n, 1024+n) }
			behind := connect(t, lab, clientOf, vip4+":80", flows)
			if _, err := lab.Reload("[access]\ndeny = [\"192.0.2.0/28\"]\n" + config(s)); err != nil {
				t.Fatal(err)
			}
			h, denied := &hosts{lab, make(map[string]bool)}, 15 // .1 to .15
			lab.Await("all ends to be reset", func() bool { h.listen(t); return len(h.reset) == 2*denied })
			for client := range behind {
				is := prefix("192.0.2.0/28").Contains(packettest.Addr(client))
				if h.reset[client+"->"+vip4+":80"] != is {
					t.Errorf("%s: reset %v, denied %v", client, !is, is)
				}
			}
			lab.Quiet()
		})
	}
}
