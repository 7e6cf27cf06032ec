package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/engine/host"
)

// Limits of Listen: it must not slow down a machine that forwards much else.
const (
	mostFrames  = 20000
	mostPassing = 64
)

// Listen fills Passing and Missed with the frames that come in to the kernel within a time: those
// from services' addresses by a port, one per address and client, with what the kernel does with
// each, and those to services by another interface. It needs CAP_NET_RAW; without it nothing is
// seen. It uses the network namespace of the calling thread.
func (b *Box) Listen(d time.Duration) {
	end := time.Now().Add(d)
	b.listen(end)
	time.Sleep(time.Until(end))
}

func (b *Box) listen(end time.Time) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.ETH_P_ALL<<8)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	buffer := make([]byte, 64)
	for n := 0; n < mostFrames && len(b.Passing) < mostPassing && time.Now().Before(end); n++ {
		length, from, err := unix.Recvfrom(fd, buffer, 0)
		at, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || at.Pkttype != unix.PACKET_HOST {
			continue
		}
		l := b.linkByIndex(at.Ifindex)
		src, dst, protocol, ok := endsOf(buffer[:length])
		switch {
		case l == nil || !ok:
		case b.portByIndex(at.Ifindex) != nil:
			b.passing(l, src.Addr(), dst.Addr())
		case at.Hatype == unix.ARPHRD_ETHER && l.Kind != "tuntap":
			b.missed(Missed{l.Name, dst.Addr(), b.serviceOf(protocol, dst)})
		}
	}
}

// passing adds a frame that may be a reply of tun or dr.
func (b *Box) passing(l *Link, src, dst netip.Addr) {
	p := Passing{Port: l.Name, VIP: src, Client: dst, Services: b.oneWayServices(src)}
	if len(p.Services) > 0 && !slices.ContainsFunc(b.Passing, func(q Passing) bool { return q.Port == p.Port && q.VIP == src && q.Client == dst }) {
		p.Err = b.forwards(l.Index, src, dst)
		b.Passing = append(b.Passing, p)
	}
}

// missed adds a frame that may be one to a service.
func (b *Box) missed(a Missed) {
	if a.Service != "" && !slices.Contains(b.Missed, a) {
		b.Missed = append(b.Missed, a)
	}
}

// endsOf returns the ends of an IP packet, with the ports of TCP and UDP in packets without
// options, and its protocol.
func endsOf(p []byte) (src, dst netip.AddrPort, protocol uint8, ok bool) {
	var from, to netip.Addr
	var rest []byte
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		from, to, protocol = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[9]
		if rest = p[20:]; p[0]&15 != 5 || p[6]&0x1f|p[7] != 0 { // options, or a later fragment
			rest = nil
		}
	case len(p) >= 40 && p[0]>>4 == 6:
		from, to, protocol, rest = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[6], p[40:]
	default:
		return src, dst, 0, false
	}
	var ports [2]uint16
	if (protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP) && len(rest) >= 4 {
		ports = [2]uint16{binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])}
	}
	return netip.AddrPortFrom(from, ports[0]), netip.AddrPortFrom(to, ports[1]), protocol, true
}

// forwards asks the kernel what it does with a packet that comes in, and returns why it does not
// forward it.
func (b *Box) forwards(ifindex int, src, dst netip.Addr) error {
	if b.forwarding(src.Is4()) == 0 {
		return errNotForwarding
	}
	_, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{IifIndex: ifindex, SrcAddr: src.AsSlice()})
	return err
}

// errNotForwarding means that forwarding is off.
var errNotForwarding = errors.New("forwarding is off")

// forwarding returns the kernel's setting for a family; 0 is off.
func (b *Box) forwarding(is4 bool) int {
	path := "proc/sys/net/ipv6/conf/all/forwarding"
	if is4 {
		path = "proc/sys/net/ipv4/ip_forward"
	}
	n, _ := b.number(path)
	return n
}

// checkReplies reports replies of tun and dr that come in and that the kernel does not forward to
// their clients, except for the causes that checkRPFilter and checkForwarding report.
func checkReplies(b *Box) (all []Finding) {
	told := make(map[string]bool)
	for _, p := range b.Passing {
		rules := b.rulesFor(p.VIP, p.Client)
		cause := fmt.Sprint(p.VIP, p.Err)
		if len(rules) > 0 {
			cause = six(p.VIP) + strconv.Itoa(rules[0].Priority)
		}
		if p.Err == nil || errors.Is(p.Err, errNotForwarding) || b.failsFilter(&p) || told[cause] {
			continue
		}
		told[cause] = true
		what := fmt.Sprintf("replies of service %s from %s come in at %s", list(p.Services), p.VIP, p.Port)
		switch {
		case b.own(&p) != nil:
			a := b.own(&p)
			all = append(all, found(Problem, here("and route the address here at the routers that clients come from", fmt.Sprintf("ip addr del %s dev %s", a.Prefix, a.Link)),
				"%s, and the kernel drops them because it has the address itself, on %s", what, a.Link))
		case len(rules) > 0:
			all = append(all, found(Problem, fmt.Sprintf("ip %srule del priority %d", six(p.VIP), rules[0].Priority),
				"%s, and the kernel does not forward them to %s (%v): a rule of `ip rule` decides about them: %s", what, p.Client, p.Err, rules[0]))
		default:
			all = append(all, found(Problem, here("GATEWAY is the router that leads to the clients", addRoute(whole(p.Client).String(), "via GATEWAY")),
				"%s, and the kernel does not forward them to %s: %v", what, p.Client, p.Err))
		}
	}
	return all
}

// own returns this machine's address that makes its kernel drop a reply from it, or nil.
func (b *Box) own(p *Passing) *host.Address {
	i := slices.IndexFunc(b.Addresses, func(a host.Address) bool { return a.Prefix.Addr() == p.VIP })
	if i < 0 || p.VIP.Is6() || !errors.Is(p.Err, unix.EINVAL) {
		return nil
	}
	return &b.Addresses[i]
}

// failsFilter reports whether the reverse path filter drops a reply. Linux gives that an error of
// its own up to 6.12, and later the one of several causes; its counter then rises.
func (b *Box) failsFilter(p *Passing) bool {
	return b.filters(p.Port) != 0 && b.own(p) == nil &&
		(errors.Is(p.Err, unix.EXDEV) || errors.Is(p.Err, unix.EINVAL) && b.risen("TcpExtIPReversePathFilter") > 0)
}

// six returns the option of ip(8) for the family of an address.
func six(a netip.Addr) string {
	if a.Is6() {
		return "-6 "
	}
	return ""
}
