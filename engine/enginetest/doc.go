// Package enginetest runs the whole engine on memory: with ports, links, routes and neighbours that
// tests create and change, and frames that tests inject and collect. It needs neither root nor a
// network.
//
//	lab := enginetest.New(t, 2, 2)                  // two ports of two queues each
//	lab.Start(2, `[[service]] ...`)                 // two workers
//	out := lab.Send(enginetest.Clients, 0, frame)   // what the engine sent
//
// # The ports
//
// A queue is like an AF_XDP socket: a fill, an RX, a TX and a completion ring over one UMEM. Frames
// arrive with 256 bytes in front, in chunks that the engine gave. Without a chunk, or without space
// on the RX ring, they are lost and counted as the kernel counts them. A kick sends what is on the
// TX ring while there is space for completions. A file descriptor is readable while received frames
// wait.
//
// # The frames
//
// Every chunk has one owner, and the queues check each change of ownership. A frame that the engine
// gives away twice, or without owning it, is reported when it happens; a frame that it forgets,
// when all is quiet. Queues have a mutex each and share only one atomic word per chunk, so that the
// race detector sees the engine's own synchronisation and not that of the lab.
//
// # The surroundings
//
// Port Clients leads to routers towards all addresses, port Backends to the networks 10.0.0.0/24
// and 2001:db8:a::/64 with hosts 11 to 19. A lab of one port has everything on port Clients. Faults
// at the end of a test (frames lost or owned twice, counters that do not add up, an error of Close)
// fail it.
//
// Goroutines: those of the engine under test; the lab starts none. The package imports engine and
// the packages that its interfaces use, and is imported by tests only.
package enginetest
