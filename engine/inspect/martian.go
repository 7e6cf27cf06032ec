package inspect

import (
	"fmt"
	"net/netip"

	"sluice/engine/api"
	"sluice/engine/worker"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// source returns why a client's packet was dropped for its source; ok is false if it was not.
func (n *Names) source(p *worker.PacketRecord) (step api.Step, ok bool) {
	text := ""
	src := netip.AddrPortFrom(p.Before.Meta.Src.Netip(), p.Before.Meta.SrcPort)
	switch p.Frame.Reason {
	case counter.Martian:
		text = n.notClient(src, service.Protocol(p.Before.Meta.Proto))
	case counter.Hairpin:
		text = fmt.Sprintf("%s is a backend of the service. The chosen backend is itself, or on its link and would answer it directly: use fullnat for such clients", src.Addr())
	}
	return api.Step{Stage: "source", Text: text, Problem: true}, text != ""
}

// notClient returns why no client's packet comes from a source.
func (n *Names) notClient(src netip.AddrPort, protocol service.Protocol) string {
	for i := range n.Services {
		if n.Services[i].Key.Address == src.Addr() {
			return fmt.Sprintf("%s is the address of %s: no client has it", src.Addr(), n.Services[i].Name)
		}
	}
	for i := range n.Backends {
		id := n.Backends[i].ID
		if id.Backend.Address == src.Addr() && protocol == service.UDP && id.Service.Protocol == service.UDP {
			return fmt.Sprintf("%s is where a backend serves udp: what it sends to services from there could be answered for ever", src)
		}
	}
	if src.Addr().IsLinkLocalUnicast() {
		return fmt.Sprintf("%s is a link-local address, and the backend is on another link", src.Addr())
	}
	return fmt.Sprintf("%s is an address of this host, a source of fullnat, or a broadcast address: no client has it", src.Addr())
}
