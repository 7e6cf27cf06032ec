// Package text puts numbers and foreign words into the few columns that a terminal has.
package text

import (
	"fmt"
	"math"
	"strings"
	"unicode"
)

// tooLong is the number of seconds, a hundred years, from which on a time counts as unknown.
const tooLong = 100 * 365 * 24 * 3600

// Ago formats seconds in the two largest units: 42s, 3m10s, 5h02m, 2d04h. An unknown time is "".
func Ago(seconds float64) string {
	if seconds < 0 || seconds > tooLong {
		return ""
	}
	s := int(seconds)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/(24*3600), s/3600%24)
}

// SI writes a number of 0 or more with three digits and a prefix, in at most five columns: 0, 0.4,
// 12, 999, 1.20k, 35.1M.
func SI(n float64) string {
	switch {
	case n < 0.05 || math.IsNaN(n):
		return "0"
	case n < 9.95 && n != math.Trunc(n):
		return fmt.Sprintf("%.1f", n)
	case n < 999.5:
		return fmt.Sprintf("%.0f", n)
	}
	for _, prefix := range "kMGTPE" {
		n /= 1000
		switch {
		case n < 9.995:
			return fmt.Sprintf("%.2f%c", n, prefix)
		case n < 99.95:
			return fmt.Sprintf("%.1f%c", n, prefix)
		case n < 999.5:
			return fmt.Sprintf("%.0f%c", n, prefix)
		}
	}
	return "much"
}

// OneLine is text from elsewhere, a backend's words among it, fit for a line of a table or a
// terminal: control characters, which could move the cursor or worse, become blanks.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
}

// Sparkline draws values as blocks of a height relative to the greatest, the last ones if they are
// more than columns, aligned right. What is not zero is never drawn as nothing.
func Sparkline(values []float64, columns int) string {
	const blocks = " ▁▂▃▄▅▆▇█"
	levels := []rune(blocks)
	if len(values) > columns {
		values = values[len(values)-columns:]
	}
	greatest := 0.0
	for _, v := range values {
		greatest = max(greatest, v)
	}
	line := []rune(strings.Repeat(" ", columns-len(values)))
	for _, v := range values {
		level := 1 // a measured zero is a line at the bottom
		if v > 0 {
			level = 1 + int(math.Ceil(v/greatest*float64(len(levels)-2)))
		}
		line = append(line, levels[min(level, len(levels)-1)])
	}
	return string(line)
}

// Bar draws a share of 0 to 1 in so many columns.
func Bar(share float64, columns int) string {
	full := int(math.Round(min(max(share, 0), 1) * float64(columns)))
	return strings.Repeat("█", full) + strings.Repeat("░", columns-full)
}
