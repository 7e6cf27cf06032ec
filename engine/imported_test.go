package engine_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"sluice/conf"
	"sluice/conf/keepalived"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

type files struct{}

func (files) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }
func (files) Read(path string) ([]byte, error)      { return os.ReadFile(path) }

// TestImportedFromKeepalived: a whole site's keepalived.conf runs, and each of its services
// forwards a client's first packet, to one of its backends and in its mode.
func TestImportedFromKeepalived(t *testing.T) {
	t.Parallel()
	path := "../conf/keepalived/testdata/keepalived.conf"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := keepalived.Parse(path, data, files{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := d.Config()
	cfg.Ports = nil // the lab has its own
	for i := range cfg.Services {
		cfg.Services[i].Health = conf.NewService().Health // checks would leave the lab
	}
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, string(conf.Format(cfg, nil)))

	for i, s := range cfg.Services {
		from := client(i)
		if s.Key.Address.Is6() {
			from = client6
		}
		port := s.Key.Ports.First
		if s.Key.Ports == service.AnyPort {
			port = 4711
		}
		to := netip.AddrPortFrom(s.Key.Address, port).String()
		sent := lab.Send(enginetest.Clients, 0, build(s.Key.Protocol.String(), from, to).Frame())
		if len(sent) != 1 {
			t.Errorf("%s: %d frames were sent for one: dropped are %v", s.Key, len(sent), lab.Stats().Drops)
			continue
		}
		out := sent[0]
		reached := outerDestination(out.Frame).String()
		backends := map[string]service.Mode{}
		for _, b := range s.Backends {
			backends[b.Key.Address.String()] = b.Mode
		}
		if s.Mode == service.DR { // only the MAC address says whom it is for
			backends[packettest.Addr(to).String()] = service.DR
		}
		if backends[reached] == 0 {
			t.Errorf("%s: a packet for it went to %s, which is none of its backends", s.Name, reached)
		}
	}
}

// outerDestination is the address that a frame's outermost IP header names.
func outerDestination(frame []byte) netip.Addr {
	if frame[14]>>4 == 4 {
		return netip.AddrFrom4([4]byte(frame[30:]))
	}
	return netip.AddrFrom16([16]byte(frame[38:]))
}
