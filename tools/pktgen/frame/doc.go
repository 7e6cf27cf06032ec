// Package frame makes and reads the generator's frames.
//
// # Sizes
//
// A frame's size is that of RFC 2544 without the four bytes of the frame check sequence, which
// AF_XDP, XDP and veth never see. The RFC's 64-byte frame has 60 bytes here.
//
// # Stamp
//
// A frame that is large enough has a stamp of 18 bytes at the start of its UDP or TCP payload:
//
//	 0  2  magic 0x5167
//	 2  1  stream: distinguishes one run of the generator from the one before
//	 3  3  flow
//	 6  4  sequence number within the flow, from 0, wrapping
//	10  8  when the frame was sent, ns of CLOCK_MONOTONIC
//
// all in network byte order. The rest of the payload is zero. 60 bytes are just enough for a stamp
// in UDP over IPv4.
package frame
