package xsk

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifreq is struct ifreq with ifr_data (include/uapi/linux/if.h).
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// ethtoolIoctl sends an ethtool request. The request must be as long as its command and contents
// state: the kernel writes its answer over it. The name is cut at 15 bytes, as the kernel does
// everywhere.
func ethtoolIoctl(fd int, ifname string, request []byte) error {
	req := ifreq{data: unsafe.Pointer(unsafe.SliceData(request))}
	copy(req.name[:unix.IFNAMSIZ-1], ifname)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(request)
	if errno != 0 {
		return errno
	}
	return nil
}
