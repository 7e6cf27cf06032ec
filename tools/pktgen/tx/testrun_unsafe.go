package tx

import (
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// xdpContext is struct xdp_md of include/uapi/linux/bpf.h.
type xdpContext struct {
	Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32
}

// testRunAttr is the test member of union bpf_attr, up to batch_size.
type testRunAttr struct {
	progFD, retval, dataSizeIn, dataSizeOut uint32
	dataIn, dataOut                         uint64
	repeat, duration                        uint32
	ctxSizeIn, ctxSizeOut                   uint32
	ctxIn, ctxOut                           uint64
	flags, cpu, batchSize, _                uint32
}

// testRun runs an XDP program repeat times on live frames that begin as copies of frame. It returns
// EINTR as soon as the thread gets a signal. It does not use ebpf.Program.Run, which would begin
// again: a run of minutes could never be ended, and many short runs are too slow, because each one
// makes the kernel rebuild its XDP dispatcher, which takes 20 ms and more.
func testRun(program *ebpf.Program, frame []byte, context xdpContext, repeat, batch uint32) error {
	attr := testRunAttr{
		progFD:     uint32(program.FD()),
		dataSizeIn: uint32(len(frame)),
		dataIn:     uint64(uintptr(unsafe.Pointer(unsafe.SliceData(frame)))),
		repeat:     repeat,
		ctxSizeIn:  uint32(unsafe.Sizeof(context)),
		ctxIn:      uint64(uintptr(unsafe.Pointer(&context))),
		flags:      unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		batchSize:  batch,
	}
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pinned.Pin(unsafe.SliceData(frame))
	pinned.Pin(&context)
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	return nil
}
