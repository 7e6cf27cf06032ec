package doctor

import (
	"sluice/engine/platform/linux"
	"sluice/engine/xsk"
	"sluice/pipeline"
)

// restBytes is the memory of a daemon without frames and connection tables.
const restBytes = 50 << 20

// checkMemory checks that there is enough memory for frames and connections. The daemon allocates
// it at the start, or does not start.
func checkMemory(b *Box) []Finding {
	if b.Stats != nil { // a running daemon has it
		return nil
	}
	connections := b.Config.Engine.Connections
	tables := pipeline.TableBytes(4, 1, connections) + pipeline.TableBytes(6, 1, connections)
	frames := 0
	for _, l := range b.ports() {
		frames += len(b.queuesOf(l)) * linux.BytesPerQueue
	}
	need, left := uint64(tables+frames+restBytes), xsk.LeftMemory(b.FS)
	if need <= left {
		return nil
	}
	return []Finding{found(Problem, "lower [engine] connections, or give the box, or the daemon's control group, more memory",
		"the daemon needs %d MiB, of which the tables for %d connections take %d MiB, and %d MiB are left: it would not start",
		need>>20, connections, tables>>20, left>>20)}
}
