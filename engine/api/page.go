package api

import (
	"encoding/json"
	"net/http"

	"sluice/engine/api/page"
)

// servePage serves the page for browsers, and the texts of drop reasons, which it shows.
func (s *Server) servePage() {
	for _, pattern := range page.Paths {
		s.HandleStatic(pattern, page.Handler())
	}
	type reason struct {
		Name string `json:"name"`
		Text string `json:"text"`
	}
	var all []reason
	for _, r := range DropReasons() {
		all = append(all, reason(r))
	}
	reasons, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings only
	}
	s.HandleStatic("GET /page/reasons.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reasons) // fails only when the client has disconnected
	}))
}
