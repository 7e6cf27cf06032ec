// Package loadgen keeps very many real TCP connections open at once, in the kernel at both ends.
// Each end is spread over several processes, because the limit of open files per process
// (RLIMIT_NOFILE) is often less than the number of SNAT ports.
//
// Servers are processes that listen on one port together (SO_REUSEPORT) and echo. Clients are
// processes with a local address each, which open connections, echo over all of them, and close
// them:
//
//	func main() {
//		loadgen.RunIfChild()
//		...
//		servers, err := loadgen.Serve(ctx, backend, "10.0.0.11:7000", 4)
//		clients, err := loadgen.Connect(ctx, client, locals, "198.51.100.10:80")
//		opened, err := clients.Open(ctx, 1024, 64000)
//		echoed, err := clients.Echo(ctx)
//		held, err := servers.Held(ctx)
//
// Both start the running program again, so its main, or TestMain, has to call RunIfChild first. A
// process reads commands from its standard input, answers each with a line of JSON, and ends with
// its input. It has one epoll(7) loop and no goroutine per connection, so 60,000 connections cost
// little more than their sockets in the kernel.
//
// There are no pauses. A process begins with the next connection when an earlier one is done, and
// works on so few at once that no queue between two namespaces overflows
// (net.core.netdev_max_backlog, 1000 packets, is the shortest): a lost SYN would cost a second.
//
// A connection ends without TIME_WAIT at either end, so that its ports are free at once. The client
// sends goodbye, the server closes, and the client resets the connection after it has seen the FIN.
// The goodbyes limit the pace: resets are not acknowledged, so a lost one in a burst would leave a
// connection behind.
package loadgen
