// Package netlab builds labs of network namespaces: hosts, wires and switches that exist only
// inside this machine, for demonstrations, end-to-end tests and benchmarks. It talks to the kernel
// itself, so a machine needs neither ip(8) nor ethtool(8), only root.
//
//	  client                 balancer                switch               b1, b2, b3
//	┌─────────┐   veth    ┌────────────┐   veth   ┌──────────┐   veth   ┌────────────┐
//	│    eth0 ├───────────┤ eth0  eth1 ├──────────┤ lb    b1 ├──────────┤ eth0       │
//	│         │           │            │          │  bridge  │          │ VIP on lo  │
//	└─────────┘           └────────────┘          └──────────┘          └────────────┘
//
//	lab, err := netlab.New("demo")
//	defer lab.Close()
//	client, err := lab.Host("client")
//	balancer, err := lab.Host("balancer")
//	err = lab.Link(client, "eth0", balancer, "eth0", netlab.LinkOptions{Queues: 2})
//	err = client.Addr("eth0", "10.1.0.2/24", "fd00:1::2/64")
//	err = client.Route("0.0.0.0/0", "10.1.0.1")
//	p, err := balancer.Start(exec.Command("sluice", "run", "--config", "lab.toml"))
//	line, err := p.WaitLine(ctx, "ready")
//	res, err := client.HTTPClient().Get("http://198.51.100.10/")
//
// # Namespaces and cleaning up
//
// A namespace is named netlab.LAB.HOST.PID.START, PID and START (in clock ticks after boot, base
// 36) being those of the process that made it, and is bound to a file of that name in /run/netns,
// so that `ip netns exec` finds it (Host.Namespace returns the name). Close kills every process in
// the lab's namespaces and removes them; wires, bridges and XDP programs go with their namespace.
// If the maker dies before that, its processes die with it (PR_SET_PDEATHSIG), and the next New of
// any process removes the namespaces and kills what those processes had started.
//
// # Threads
//
// A namespace is a property of a thread. Each host has one thread of its own, from which its
// processes are forked; it also has a mount namespace of its own, so that a process sees the host's
// interfaces in /sys/class/net, as under `ip netns exec`. Host.Do runs a function inside; sockets
// that it makes stay inside, goroutines that it starts do not. So code that starts goroutines, such
// as the engine of a balancer, has to run in a process. All of a Lab and of a Host may be used by
// several goroutines at once.
//
// # What veth needs
//
// A veth sender leaves checksums and segmentation to the device, which never does them: the peer
// may receive 64 KiB frames with partial checksums. Link turns these offloads off at both ends, and
// VLAN acceleration, which would keep the tag outside of the frame.
//
// AF_XDP over veth (TestXSKTransmit and TestRedirectNeedsPeerXDP show the first and the last):
//   - Transmitting in copy mode needs nothing at the peer. The kernel builds an skb and calls the
//     device's normal transmit function (xsk_generic_xmit in net/xdp/xsk.c, veth_xmit in
//     drivers/net/veth.c), which hands it to the peer's stack through the backlog.
//   - Receiving in native mode needs the XDP program on the receiving end only, at most as many TX
//     queues at the peer as the receiver has RX queues (a Link has the same number everywhere), and
//     an MTU of no more than about 3500 bytes at the peer.
//   - Only XDP_REDIRECT and XDP_TX into a veth need help at the peer: an XDP program, or GRO on, so
//     that the peer polls its queues. LinkOptions.PeerXDP and Host.PassXDP give it one.
package netlab
