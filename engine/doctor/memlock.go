package doctor

import "sluice/engine/platform/linux"

// checkMemlock compares the frames with the limit of locked memory. The kernel charges the frames
// of AF_XDP to the limit of locked memory, whatever its version.
func checkMemlock(b *Box) []Finding {
	if b.Config == nil || b.Stats != nil || b.Capabilities&(1<<ipcLock) != 0 {
		return nil
	}
	need := uint64(0)
	for _, l := range b.ports() {
		need += uint64(len(b.queuesOf(l))) * linux.BytesPerQueue
	}
	if b.Memlock >= need {
		return nil
	}
	return []Finding{found(Problem, "LimitMEMLOCK=infinity in the systemd unit (ulimit -l unlimited), or CAP_IPC_LOCK",
		"%d KiB may be locked in memory and the frames take %d MiB: the daemon would end with \"no buffer space available\"", b.Memlock>>10, need>>20)}
}
