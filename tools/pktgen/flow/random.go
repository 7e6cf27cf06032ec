package flow

// Random is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014):
// the same numbers for the same seed on every machine, in every version, and in live.c.
type Random uint64

// Next returns 64 random bits.
func (r *Random) Next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Below returns a number below n. The probabilities of two numbers differ by at most n in 2^32.
func (r *Random) Below(n uint32) uint32 { return uint32((r.Next() >> 32) * uint64(n) >> 32) }
