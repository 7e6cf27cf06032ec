package xsk

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// registerUMEM registers mem as the socket's UMEM (XDP_UMEM_REG). Its pages stay pinned until the
// last socket that uses the registration is closed.
func registerUMEM(fd int, mem []byte) error {
	reg := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))),
		Len:  uint64(len(mem)),
		Size: FrameSize,
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// getsockoptXDP reads an option at level SOL_XDP. Fields that an older kernel does not know stay 0.
func getsockoptXDP[T any](fd, option int) (T, error) {
	var value T
	size := uint32(unsafe.Sizeof(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return value, errno
	}
	return value, nil
}

// prefer asks the kernel to allocate the memory on a NUMA node, whichever thread touches it first,
// as long as the node has memory left. Errors are ignored: a kernel without NUMA has one node only.
func prefer(mem []byte, node int) {
	const preferred = 1 // MPOL_PREFERRED, linux/mempolicy.h
	var nodes [16]uint64
	if node < 0 || node >= 64*len(nodes) {
		return
	}
	nodes[node/64] |= 1 << (node % 64)
	_, _, _ = unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), uintptr(len(mem)), preferred,
		uintptr(unsafe.Pointer(&nodes)), 64*uintptr(len(nodes)), 0)
}
