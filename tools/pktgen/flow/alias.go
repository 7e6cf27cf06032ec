package flow

import "math"

// Column is a column of an alias table, which allows to draw a flow in constant time for any
// distribution (Vose: A linear algorithm for generating random numbers with a given distribution,
// 1991): draw a column, all equally likely; it gives its own flow if a second number of 32 bits is
// below Stay, and Other if not.
type Column struct{ Stay, Other uint32 }

// zipf returns the table for n flows of which flow i, from 0, has a chance proportional to
// 1/(i+1)^exponent.
func zipf(n uint32, exponent float64) []Column {
	share := make([]float64, n) // in units of the mean
	sum := 0.0
	for i := range share {
		share[i] = math.Pow(float64(i+1), -exponent)
		sum += share[i]
	}
	var small, large []uint32
	for i := range share {
		share[i] *= float64(n) / sum
		if share[i] < 1 {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	columns := make([]Column, n)
	for i := range columns {
		columns[i] = Column{Stay: math.MaxUint32, Other: uint32(i)}
	}
	for len(small) > 0 && len(large) > 0 {
		poor, rich := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		columns[poor] = Column{Stay: uint32(share[poor] * (1 << 32)), Other: rich}
		if share[rich] -= 1 - share[poor]; share[rich] < 1 {
			large = large[:len(large)-1]
			small = append(small, rich)
		}
	}
	return columns // the rest in small or large is 1 except for rounding, and stays
}
