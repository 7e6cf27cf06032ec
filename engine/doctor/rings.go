package doctor

import "fmt"

// smallRing is the number of packets that a card should be able to hold while the driver is busy:
// about 100 microseconds of a busy 10 Gbit/s port.
const smallRing = 1024

func checkRings(b *Box) (all []Finding) {
	for _, l := range b.ports() {
		if l.RxRing > 0 && l.RxRing < smallRing && l.RxRing < l.RxRingMax {
			all = append(all, found(Note, fmt.Sprintf("ethtool -G %s rx %d", l.Name, min(l.RxRingMax, 2*smallRing)),
				"port %s has an RX ring of %d packets per queue, and could have %d: bursts are lost in the card", l.Name, l.RxRing, l.RxRingMax))
		}
	}
	return all
}
