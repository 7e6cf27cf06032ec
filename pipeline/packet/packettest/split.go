package packettest

import (
	"bytes"
	"encoding/binary"
)

// Split returns the fragments of the IP packet in an untagged frame, in order, with at most mtu
// bytes each. The packet has neither IP options nor extension headers.
func Split(frame []byte, id uint32, mtu int) (frames [][]byte) {
	link, ip := frame[:14], frame[14:]
	header, end := 20, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 == 6 {
		header, end = 40, 40+int(binary.BigEndian.Uint16(ip[4:]))
	}
	payload, step := ip[header:end], (mtu-20)&^7
	if header == 40 {
		step = (mtu - 48) &^ 7
	}
	for at := 0; at < len(payload); at += step {
		part := payload[at:min(at+step, len(payload))]
		more := at+step < len(payload)
		head := bytes.Clone(ip[:header])
		if header == 20 {
			head = fragment4(head, id, at, len(part), more)
		} else {
			head = fragment6(head, id, at, len(part), more)
		}
		frames = append(frames, bytes.Join([][]byte{link, head, part}, nil))
	}
	return frames
}

// fragment4 makes an IPv4 header that of a fragment.
func fragment4(h []byte, id uint32, at, length int, more bool) []byte {
	flags := uint16(at / 8)
	if more {
		flags |= 0x2000
	}
	binary.BigEndian.PutUint16(h[2:], uint16(20+length))
	binary.BigEndian.PutUint16(h[4:], uint16(id))
	binary.BigEndian.PutUint16(h[6:], flags)
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return h
}

// fragment6 puts a fragment header behind an IPv6 header.
func fragment6(h []byte, id uint32, at, length int, more bool) []byte {
	flags := uint16(at)
	if more {
		flags |= 1
	}
	binary.BigEndian.PutUint16(h[4:], uint16(8+length))
	next := h[6]
	h[6] = 44
	h = append(h, next, 0)
	h = binary.BigEndian.AppendUint16(h, flags)
	return binary.BigEndian.AppendUint32(h, id)
}
