// Package enginetest runs the whole engine on memory: ports, links, routes and neighbours that
// tests make up and change, and frames that tests put in and take out. It needs no root and no
// network.
//
//	lab := enginetest.New(t, 2, 2)                  // two ports of two queues each
//	lab.Start(2, `[[service]] ...`)                 // two workers
//	out := lab.Send(enginetest.Clients, 0, frame)   // what the engine sent by the time that it was done
//
// # The ports
//
// A queue is what an AF_XDP socket is: a fill, an RX, a TX and a completion ring over one UMEM.
// Frames arrive with 256 bytes in front, in chunks that the engine gave; without one, or without
// room on the RX ring, they are lost and counted as the kernel counts them. A kick sends what is on
// the TX ring for as long as there is room for completions. A file descriptor is readable for as
// long as received frames wait.
//
// # The frames
//
// Every chunk has one owner, and the queues check each change of hands: a frame that the engine
// gives away twice, or without having it, is reported when it happens; one that it forgets, when
// all is quiet. Queues have a mutex each and nothing in common but one atomic word per chunk, so
// that the race detector sees the engine's own synchronisation and not that of the lab.
//
// # The surroundings
//
// Port Clients leads to routers, by which all addresses are reached; port Backends to the networks
// 10.0.0.0/24 and 2001:db8:a::/64, in which hosts 11 to 19 are there. A lab of one port has
// everything on port Clients. What is wrong at the end of a test - frames lost or owned twice,
// counters that don't add up, an error in Close - fails it.
package enginetest
