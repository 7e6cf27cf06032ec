package doctor

import "fmt"

// smallRing is how many packets a card should be able to keep while the driver is busy: some 100
// microseconds of a busy 10 Gbit/s port.
const smallRing = 1024

func checkRings(b *Box) (all []Finding) {
	for _, l := range b.ports() {
		if l.RxRing > 0 && l.RxRing < smallRing && l.RxRing < l.RxRingMax {
			all = append(all, found(Note, fmt.Sprintf("ethtool -G %s rx %d", l.Name, min(l.RxRingMax, 2*smallRing)),
				"port %s keeps %d packets per queue (RX ring) of the %d that it could: bursts are lost in the card", l.Name, l.RxRing, l.RxRingMax))
		}
	}
	return all
}
