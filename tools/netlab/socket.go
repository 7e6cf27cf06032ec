package netlab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
)

// Listen is net.Listen inside the host; the listener may be used from anywhere. The address is an
// IP literal and a port number, or only ":port".
func (h *Host) Listen(network, addr string) (l net.Listener, err error) {
	if err := h.checkLiteral(addr); err != nil {
		return nil, err
	}
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // no MPTCP
	err = h.Do(func() (err error) {
		l, err = plain.Listen(context.Background(), network, addr)
		return err
	})
	return l, h.named(err)
}

// ListenPacket is net.ListenPacket inside the host, as Listen.
func (h *Host) ListenPacket(network, addr string) (c net.PacketConn, err error) {
	if err := h.checkLiteral(addr); err != nil {
		return nil, err
	}
	err = h.Do(func() (err error) {
		c, err = net.ListenPacket(network, addr)
		return err
	})
	return c, h.named(err)
}

// Dial connects from inside the host; the connection may be used from anywhere. The address is an
// IP literal and a port number: resolving a name, and trying several addresses at once, would
// happen on threads outside the namespace.
func (h *Host) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	if err := h.checkLiteral(addr); err != nil {
		return nil, err
	}
	err = h.Do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, h.named(err)
}

// DialFrom is Dial from a local address and port, which are literals as well; port 0 means any.
func (h *Host) DialFrom(ctx context.Context, network, local, addr string) (c net.Conn, err error) {
	if err := h.checkLiteral(addr); err != nil {
		return nil, err
	}
	from, err := netip.ParseAddrPort(local)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s: local address %q: %w", h.name, local, err)
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	if len(network) > 2 && network[:3] == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	err = h.Do(func() (err error) {
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, h.named(err)
}

// HTTPClient returns a client that connects from inside the host, with a new connection for each
// request. The host part of its URLs is an IP literal. It has no timeout except those of the
// requests' contexts.
func (h *Host) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true, DisableCompression: true}}
}

// checkLiteral refuses names and zones, because the net package resolves both on any thread.
func (h *Host) checkLiteral(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err == nil && host != "" {
		var a netip.Addr
		if a, err = netip.ParseAddr(host); err == nil && a.Zone() != "" {
			err = fmt.Errorf("zone %q is not possible here", a.Zone())
		}
	}
	if err != nil {
		return fmt.Errorf("netlab: %s: address %q must be an IP literal and a port, like 10.0.0.1:80 or [fd00::1]:80: %w", h.name, addr, err)
	}
	return nil
}

func (h *Host) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("host %s: %w", h.name, err)
}
