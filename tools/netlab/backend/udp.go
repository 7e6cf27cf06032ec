package backend

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// serveUDP answers each datagram from the address it was sent to. On a socket bound to the wildcard
// address this needs a control message in both directions: IP_PKTINFO in ip(7), IPV6_PKTINFO in
// ipv6(7) and RFC 3542 section 6.
func (b *Backend) serveUDP(network, addr string) error {
	local, err := net.ResolveUDPAddr(network, addr) // a literal; nothing is resolved
	if err != nil {
		return err
	}
	c, err := net.ListenUDP(network, local)
	if err != nil {
		return err
	}
	if err := askPacketInfo(c, network == "udp6"); err != nil {
		c.Close()
		return fmt.Errorf("udp %s: asking for destination addresses: %w", addr, err)
	}
	b.addrs = append(b.addrs, c.LocalAddr())
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	b.run(c, func() { answerUDP(c, b.name, port) })
	return nil
}

func askPacketInfo(c *net.UDPConn, is6 bool) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if is6 {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	return errors.Join(err, set)
}

// answerUDP returns when the socket is closed. Other errors concern one datagram: one that was too
// big, or an ICMP error that a former answer brought back.
func answerUDP(c *net.UDPConn, name string, port uint16) {
	in, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, controlLen, _, client, err := c.ReadMsgUDPAddrPort(in, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		asked, reply, err := packetInfo(control[:controlLen])
		if err != nil {
			continue
		}
		a := Answer{Name: name, Client: client, Server: netip.AddrPortFrom(asked, port)}
		_, _, _ = c.WriteMsgUDPAddrPort(append([]byte(a.String()+"\n"), in[:n]...), reply, client)
	}
}

// packetInfo returns the control message that makes an answer leave from the address that the
// datagram was sent to.
func packetInfo(control []byte) (asked netip.Addr, reply []byte, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}, nil, err
	}
	for _, m := range messages {
		switch {
		// struct in_pktinfo: int ifindex, spec_dst, addr. On the way out spec_dst is the source.
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			to := [4]byte(m.Data[8:12])
			return netip.AddrFrom4(to), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: to}), nil
		// struct in6_pktinfo: addr, unsigned ifindex.
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			to := [16]byte(m.Data[0:16])
			return netip.AddrFrom16(to), unix.PktInfo6(&unix.Inet6Pktinfo{Addr: to}), nil
		}
	}
	return netip.Addr{}, nil, errors.New("no destination address came with the datagram")
}

// SplitUDP splits a UDP answer into its line and the echoed bytes.
func SplitUDP(datagram []byte) (Answer, []byte, error) {
	line, echo, _ := bytes.Cut(datagram, []byte("\n"))
	a, err := ParseAnswer(string(line))
	return a, echo, err
}
