// Package conn is the connection table of one worker.
//
// # Terminology
//
// An entry is a connection or a persistence template. A line is one 64-byte cache line; it holds
// two IPv4 entries or one IPv6 entry. An entry's home is the line that its client's hash names; an
// entry lives in its home or, when that is full, in one of the next lines (linear probing).
//
//	home(hash) ─┐
//	            ▼
//	 line: │ A  A │ A  B │ B  – │ –  – │ …        A: home here   B: home in the next line
//	        over=1  over=1  over=0                 over: how many entries passed over this full line
//
// The over count of a line says how many entries whose way led past this line live further on. A
// search that has looked through a line with over = 0 ends there, so that neither deletions leave
// tombstones nor misses walk on. Removing an entry lowers the count of every line between its home
// and itself.
//
// One entry serves both directions: the home depends on the client alone (package flow), which is
// the source of what clients send and the destination of what backends answer. The first match
// compares service and VIP port, the second backend address and port. Replies of fullnat come to a
// local port instead, and who gave that out knows the entry's slot: entries never move.
//
// # Size
//
// Tables have two slots for every connection of the capacity: 64 bytes per IPv4 connection and 128
// per IPv6 connection, all told. A half-full table keeps probes short: 1.06 lines on average for
// IPv4.
//
// # Ownership and time
//
// A table belongs to one worker goroutine; nothing here is safe for two. Memory comes from outside
// (huge pages, where there are any) and holds no Go pointers. Time is a 32-bit count of
// milliseconds that wraps after 49 days; comparisons are by signed difference, and timeouts are at
// most 24 days.
//
// Expired entries are removed by whoever meets them: a lookup, an insertion that needs the slot, or
// the sweep that the worker's tick drives.
package conn
