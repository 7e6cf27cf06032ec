// Package loadgen is very many real TCP connections at once, open in the kernel at both ends. Each
// end is spread over several processes, because a process may have only so many open files
// (RLIMIT_NOFILE), which is often less than a balancer has ports.
//
// Servers are processes that listen on one port together (SO_REUSEPORT) and return what they get.
// Clients are processes with a local address each, which open connections, carry something over all
// that are open, and end them:
//
//	func main() {
//		loadgen.RunIfChild()
//		...
//		servers, err := loadgen.Serve(ctx, backend, "10.0.0.11:7000", 4)
//		clients, err := loadgen.Gather(client, locals, "198.51.100.10:80")
//		opened, err := clients.Open(ctx, 1024, 64000)
//		talked, err := clients.Talk(ctx)
//		held, err := servers.Held(ctx)
//
// Both start the running program again, which is why its main, or TestMain, calls RunIfChild first.
// A process does what lines on its standard input tell it, answers each with a line of JSON, and
// ends with its input. It has one epoll(7) loop and no goroutine per connection: 60,000 of them
// should cost the machine what the kernel takes for the sockets, and little more.
//
// Nobody waits for time to pass. A process begins with the next connection when an earlier one is
// done, and has so few of them under way that no queue between two namespaces overflows
// (net.core.netdev_max_backlog, 1000 packets, is the shortest): a lost SYN would be a second lost.
//
// A connection ends without TIME_WAIT at either end, so that its ports are free at once. The client
// says goodbye, the server closes, and the client, which has seen the FIN, resets what is left. The
// goodbyes keep the pace: a burst of resets alone would be answered by nobody, and each that got
// lost would leave a connection behind.
package loadgen
