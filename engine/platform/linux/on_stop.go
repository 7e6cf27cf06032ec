package linux

import "sluice/engine/steer"

// onStop is what becomes of packets for services once no process runs.
type onStop struct {
	drop bool   // false: the kernel has them after a planned end
	dir  string // of the files that hold the XDP programs then; "": there are none
}

// OnStop sets what becomes of packets for services once no process runs, before Open: with drop the
// XDP programs stay attached, held by files in dir, which is in a BPF file system. Without it, what
// another process has left there is taken over.
func (k *Kernel) OnStop(drop bool, dir string) { k.onStop = onStop{drop, dir} }

// inheritLinks takes over the XDP programs that a former process has left.
func (k *Kernel) inheritLinks() error {
	holder := k.holder
	if k.onStop.dir != "" {
		var err error
		if holder, err = steer.Pin(k.onStop.dir, k.onStop.drop, k.holder); err != nil {
			return err
		}
	}
	if holder != nil {
		k.program.Inherit(holder)
	}
	if k.onStop.drop {
		k.program.Leave()
	}
	return nil
}
