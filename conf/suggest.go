package conf

import (
	"maps"
	"slices"
	"strings"
)

// suggestion returns what an unknown key was probably meant to be: a known key with almost the same
// spelling, or a key of another table. It returns "" if there is no such guess.
func suggestion(section, key string) string {
	if len(key) > 64 {
		return ""
	}
	best, least := "", 1+len(key)/3
	for _, legal := range slices.Sorted(maps.Keys(settingsOf[section])) {
		if d := distance(strings.ToLower(key), legal); d <= least {
			best, least = legal, d-1
		}
	}
	if best != "" {
		return "did you mean " + best + "? "
	}
	for i := range Settings {
		if s := &Settings[i]; s.Key == key {
			return key + " belongs to " + header(s.Table) + "; "
		}
	}
	return ""
}

// distance returns the number of letters to add, drop or change to get from a to b (Levenshtein
// 1965). Only the previous row of the matrix is stored.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
