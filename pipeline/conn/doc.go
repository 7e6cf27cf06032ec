// Package conn is the connection table of one worker.
//
// # Terminology
//
// An entry is a connection or a persistence template. A line is one 64-byte cache line; it holds
// two IPv4 entries or one IPv6 entry. The home of an entry is the line that the hash of its client
// selects; an entry is stored in its home or, if that is full, in one of the next lines (linear
// probing). A home is not a bucket: its entries may be in other lines, and entries of other homes
// may be in it.
//
//	home(hash) ─┐
//	            ▼
//	 line: │ A  A │ A  B │ B  – │ –  – │ …        A: home here   B: home in the next line
//	        over=1  over=1  over=0                 over: how many entries passed over this full line
//
// The over count of a line is the number of entries that have their home in this line or before it
// and are stored after it. A search that has looked through a line with over = 0 ends there:
// removed entries leave no tombstones, and a miss reads few lines. Removing an entry lowers the
// count of each line between its home and its own line.
//
// One entry serves both directions: the home depends on the client alone (package flow), which is
// the source of the client's packets and the destination of the backend's. Find compares service
// and VIP port, FindReply compares the backend's address and port. Replies of fullnat come to a
// local port instead, and the SNAT pool of the port has the entry's slot: entries never move.
//
// A client port with many connections has some of them at second homes (second_home.go).
//
// # Size
//
// A worker has two slots of either family for each connection of its even share of the capacity:
// 64 bytes for an IPv4 connection and 128 for an IPv6 connection. A half-full table keeps probes
// short: 1.06 lines on average for IPv4. A worker may have up to one and a half even shares, all of
// one family (counter.Share), so a table is at most three quarters full.
//
// # Ownership and time
//
// A table belongs to one worker goroutine; nothing here may be called by two. Its memory comes from
// outside (huge pages if available) and holds no Go pointers. Time is a 32-bit count of
// milliseconds that wraps after 49 days; comparisons are by signed difference, so timeouts are at
// most 24 days.
//
// Expired entries are removed by a lookup that meets them, by an insertion that needs the slot, and
// by the sweep that the worker's housekeeping drives.
package conn
