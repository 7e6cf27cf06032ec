package api

import "context"

// Changes is the part of Control that changes a running daemon and reports on changes. Changes are
// made one after the other; each is made completely or not at all.
type Changes interface {
	// Status returns what is active, since when, and what needs attention.
	Status(ctx context.Context) (Status, error)

	// Plan compares a configuration with the active one. It changes nothing.
	Plan(ctx context.Context, f File) (Plan, error)

	// Apply activates a configuration. It is permanent when ConfirmS is 0 or when Confirm is called
	// within so many seconds; otherwise the previous configuration is activated again.
	Apply(ctx context.Context, r ApplyRequest) (ApplyResult, error)
	// Confirm makes the pending configuration permanent: it replaces the daemon's file.
	Confirm(ctx context.Context) (ApplyResult, error)
	// Rollback activates an earlier generation and replaces the daemon's file by it; 0 is the one
	// before the active one. While an Apply is pending, 0 undoes it.
	Rollback(ctx context.Context, generation int) (ApplyResult, error)
	// Generations returns the stored configurations, the latest first.
	Generations(ctx context.Context) ([]Generation, error)

	// Override drains, disables or enables a backend whatever the file says. Service and backend
	// are identified as in SetWeight.
	Override(ctx context.Context, r OverrideRequest) (Backend, error)
	// Overrides returns what was set at run time and applies, including backends that are not
	// configured.
	Overrides(ctx context.Context) ([]Override, error)
	// ClearOverrides removes overrides, so that the file applies again: of a backend, of a whole
	// service (backend ""), or all (both ""). It returns what it removed. Service and backend are
	// identified as in the answers of Overrides.
	ClearOverrides(ctx context.Context, service, backend string) ([]Override, error)
}

// File is a configuration: a text, or, without a text, the daemon's own file.
type File struct {
	Name string `json:"name,omitempty"` // in messages
	Text string `json:"text,omitempty"` // TOML
}

// routeChanges adds the endpoints of Changes.
func (s *Server) routeChanges() {
	s.routeStatus()
	s.routePlan()
	s.routeApply()
	s.routeConfirm()
	s.routeRollback()
	s.routeGenerations()
	s.routeOverrides()
	s.routeOverride()
	s.routeClearOverrides()
}
