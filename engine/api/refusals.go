package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// RefusedNote returns which new connections a service does not get, and why: what a full table does
// to it now, and what lists, limits and a full table have refused since the start; "": nothing.
func RefusedNote(s Service) string {
	var all []string
	if s.AccessDenied > 0 {
		all = append(all, fmt.Sprintf("%d packets denied", s.AccessDenied))
	}
	if len(s.Limited) > 0 {
		sum, words := uint64(0), []string(nil)
		for _, limit := range slices.Sorted(maps.Keys(s.Limited)) {
			sum += s.Limited[limit]
			words = append(words, fmt.Sprintf("%s %d", limit, s.Limited[limit]))
		}
		all = append(all, fmt.Sprintf("%d beyond limits (%s)", sum, strings.Join(words, ", ")))
	}
	if s.TableFull > 0 {
		all = append(all, fmt.Sprintf("%d without a free entry", s.TableFull))
	}
	note := ""
	if len(all) > 0 {
		note = "refused since the start: " + strings.Join(all, ", ")
	}
	if s.FirstPackets != nil {
		note = strings.TrimSuffix(s.FirstPackets.String()+"; "+note, "; ")
	}
	if s.Pressure != nil {
		note = strings.TrimSuffix(s.Pressure.String()+"; "+note, "; ")
	}
	return note
}
