package api

import "context"

// Changes is how a running daemon is changed, and asked about changes: part of Control. What
// changes something is done one after the other, and is either done as a whole or not at all.
type Changes interface {
	// Status says what runs, since when, and what needs somebody's attention.
	Status(ctx context.Context) (Status, error)

	// Plan compares a configuration with what runs, and changes nothing.
	Plan(ctx context.Context, f File) (Plan, error)

	// Apply makes a configuration the running one. It is permanent when ConfirmS is 0, or when
	// Confirm comes within so many seconds; else what ran before comes back by itself.
	Apply(ctx context.Context, r ApplyRequest) (ApplyResult, error)
	// Confirm makes the configuration that waits for it permanent: the daemon's file is replaced by
	// it.
	Confirm(ctx context.Context) (ApplyResult, error)
	// Rollback makes an earlier generation the running configuration and replaces the daemon's file
	// by it; 0 is the one that ran before the present one. While an Apply waits for its Confirm, 0
	// takes that back.
	Rollback(ctx context.Context, generation int) (ApplyResult, error)
	// Generations lists the configurations that are kept, the latest first.
	Generations(ctx context.Context) ([]Generation, error)

	// Override drains, disables or enables a backend whatever the file says. Names are as in
	// SetWeight.
	Override(ctx context.Context, r OverrideRequest) (Backend, error)
	// Overrides lists what was set at run time and holds, for backends that are not configured too.
	Overrides(ctx context.Context) ([]Override, error)
	// ClearOverrides has the file decide again, about a backend, all of a service ("" for the
	// backend) or everything ("" for both), and gives what it cleared. Names are as in Override's
	// answers.
	ClearOverrides(ctx context.Context, service, backend string) ([]Override, error)
}

// File is a configuration: the text of a file, or, without a text, the daemon's own.
type File struct {
	Name string `json:"name,omitempty"` // in messages
	Text string `json:"text,omitempty"` // TOML
}

// routeChanges adds what Changes needs.
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
