package rings

// Desc describes a frame: 16 bytes, laid out as the kernel's struct xdp_desc
// (include/uapi/linux/if_xdp.h).
type Desc struct {
	Addr    uint64 // byte offset of the frame's first byte in the UMEM
	Len     uint32 // bytes
	Options uint32 // 0 on the kernel's rings; on hand-over rings it belongs to the engine
}
