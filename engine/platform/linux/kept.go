package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/engine/platform"
	"sluice/engine/xsk"
)

// kept is memory at the holder, under names such as "mem.7.connections.0.4": the number is one more
// than that of the process before. So the memory of two processes is there while the second reads
// that of the first. What Keep keeps has two names, .a and .b, in turn: one of them is there at all
// times.
type kept struct {
	number   int               // of this process
	former   map[string][]byte // of the process before
	mappings [][]byte          // behind former
	formerAt []string          // its names at the holder
	turn     uint64            // of Keep
	// early is memory that was made before number is known, and is not held yet; nil: it is known.
	early    map[string]*xsk.UMEM
	counters [][]byte // of this process: see Counters
}

const keptName = "mem."

// slots are the ends of the names of what Keep keeps.
var slots = [2]string{".a", ".b"}

var _ platform.Keeper = (*Kernel)(nil)

// newMemory returns memory, which the next process has if there is a holder.
func (k *Kernel) newMemory(name string, frames, node int) (*xsk.UMEM, error) {
	if k.holder == nil {
		return xsk.NewUMEM(frames, node)
	}
	m, err := xsk.NewShared(frames, node)
	if err != nil {
		return nil, err
	}
	if k.kept.early != nil {
		k.kept.early[name] = m
	} else {
		k.holdMemory(name, m)
	}
	return m, nil
}

// holdMemory makes the holder hold memory.
func (k *Kernel) holdMemory(name string, m *xsk.UMEM) {
	if err := k.holder.Put(k.keptName(name), m.FD()); err != nil {
		k.log.Warn("connections will not outlive this process", "err", err)
	}
}

func (k *Kernel) keptName(name string) string {
	return keptName + strconv.Itoa(k.kept.number) + "." + name
}

// findFormer maps what the process before has left. Of several, only the latest that is complete
// counts: others ended while they started.
func (k *Kernel) findFormer() {
	all := make(map[int][]string) // by number of the process: names without it
	complete := 0
	for _, name := range k.holder.Names() {
		text, rest, _ := strings.Cut(strings.TrimPrefix(name, keptName), ".")
		number, err := strconv.Atoi(text)
		if !strings.HasPrefix(name, keptName) || err != nil {
			continue
		}
		all[number] = append(all[number], rest)
		if k.kept.number = max(k.kept.number, number); rest == platform.Complete+slots[0] || rest == platform.Complete+slots[1] {
			complete = max(complete, number)
		}
	}
	k.kept.number++
	k.kept.former = make(map[string][]byte)
	latest := make(map[string]uint64) // turn of what was kept
	for number, names := range all {
		for _, name := range names {
			at := fmt.Sprint(keptName, number, ".", name)
			k.kept.formerAt = append(k.kept.formerAt, at)
			if fd, ok := k.holder.Take(at); ok && number == complete {
				k.mapFormer(name, fd, latest)
			} else if ok {
				unix.Close(fd)
			}
		}
	}
	for name, m := range k.kept.early {
		k.holdMemory(name, m)
	}
	k.kept.early = nil
}

// mapFormer maps one area of the process before.
func (k *Kernel) mapFormer(name string, fd int, latest map[string]uint64) {
	defer unix.Close(fd)
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil || stat.Size == 0 {
		return
	}
	mapping, err := unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		k.log.Warn("memory of the former process cannot be read", "err", err)
		return
	}
	for _, slot := range slots {
		kept, ok := strings.CutSuffix(name, slot)
		if !ok {
			continue
		}
		data, turn := unpack(mapping)
		if turn > latest[kept] {
			latest[kept], k.kept.former[kept] = turn, data
		}
		_ = unix.Munmap(mapping)
		return
	}
	k.kept.former[name] = mapping
	k.kept.mappings = append(k.kept.mappings, mapping)
}

// unpack returns a copy of what Keep has kept, and its turn; 0 if it is not complete.
func unpack(mapping []byte) (data []byte, turn uint64) {
	if len(mapping) < keptHead {
		return nil, 0
	}
	turn, size := binary.LittleEndian.Uint64(mapping), binary.LittleEndian.Uint64(mapping[8:])
	if size > uint64(len(mapping)-keptHead) {
		return nil, 0
	}
	return append([]byte{}, mapping[keptHead:keptHead+size]...), turn
}

// keptHead is the number of bytes before what Keep keeps: its turn and its length.
const keptHead = 16

// Counters implements platform.Keeper.
func (k *Kernel) Counters(name string, bytes int) ([]byte, error) {
	fd, err := unix.MemfdCreate("sluice", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) // the mapping stays, and the holder has a copy
	if err := unix.Ftruncate(fd, int64(bytes)); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	k.kept.counters = append(k.kept.counters, mem)
	if k.holder == nil {
		return mem, nil
	}
	if err := k.holder.Put(k.keptName(name), fd); err != nil {
		k.log.Warn("counters will not outlive this process", "event", "keep_failed", "error", err)
	}
	return mem, nil
}

// freeCounters frees what Counters returned.
func (k *Kernel) freeCounters() (err error) {
	for _, mem := range k.kept.counters {
		err = errors.Join(err, unix.Munmap(mem))
	}
	k.kept.counters = nil
	return err
}

// Former implements platform.Keeper.
func (k *Kernel) Former() map[string][]byte { return k.kept.former }

// EndFormer implements platform.Keeper.
func (k *Kernel) EndFormer() (err error) {
	for _, m := range k.kept.mappings {
		err = errors.Join(err, unix.Munmap(m))
	}
	for _, at := range k.kept.formerAt {
		err = errors.Join(err, k.holder.Remove(at))
	}
	k.kept.former, k.kept.mappings, k.kept.formerAt = nil, nil, nil
	return err
}

// Keep implements platform.Keeper. Without a holder it does nothing.
func (k *Kernel) Keep(name string, data []byte) error {
	if k.holder == nil {
		return nil
	}
	k.kept.turn++
	fd, err := unix.MemfdCreate("sluice", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // the holder has a copy
	head := binary.LittleEndian.AppendUint64(nil, k.kept.turn)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(data)))
	if _, err := f.Write(append(head, data...)); err != nil {
		return err
	}
	return k.holder.Put(k.keptName(name)+slots[k.kept.turn%2], fd)
}
