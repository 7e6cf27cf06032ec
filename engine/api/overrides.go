package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// The states of an override: its effect on connections.
const (
	OverrideWeight  = "weight"  // the weight, until the file has a new one for the backend
	OverrideDrain   = "drain"   // no new ones; existing ones continue, at most until the deadline
	OverrideDisable = "disable" // no new ones, and existing ones end
	OverrideEnable  = "enable"  // in an OverrideRequest: undoes drain, disable and a weight of 0
)

// Override is what was set at run time for a backend. It remains in reloads and restarts.
type Override struct {
	// Service: the name of the service, or its key if it is not configured.
	Service  string    `json:"service"`
	Backend  string    `json:"backend"`
	State    string    `json:"state"`            // OverrideWeight, OverrideDrain or OverrideDisable
	Weight   *int      `json:"weight,omitempty"` // set at run time; applies again after enable
	Deadline time.Time `json:"deadline,omitzero"`
	Since    time.Time `json:"since"`
	// Configured is false if the file has no such backend; the override applies again when it has.
	Configured bool `json:"configured"`
}

// OverrideRequest is the request for an override.
type OverrideRequest struct {
	Service string `json:"service"`
	Backend string `json:"backend"`
	// State: OverrideDrain, OverrideDisable or OverrideEnable.
	State string `json:"state"`
	// DeadlineS: drain: connections end after so many seconds; 0: they continue.
	DeadlineS float64 `json:"deadline_s,omitempty"`
}

// MaxDeadlineS is the longest deadline, and the longest time for a confirm: 30 days.
const MaxDeadlineS = 30 * 24 * 3600

// Check returns an error if the request is invalid whatever the services are.
func (r OverrideRequest) Check() error {
	switch r.State {
	case OverrideDrain, OverrideDisable, OverrideEnable:
	default:
		return badRequest{fmt.Sprintf("state %q must be one of %s, %s, %s", r.State, OverrideDrain, OverrideDisable, OverrideEnable)}
	}
	if r.DeadlineS != 0 && r.State != OverrideDrain {
		return badRequest{"deadline_s is allowed with state drain only"}
	}
	return checkSeconds("deadline_s", r.DeadlineS)
}

func checkSeconds(name string, s float64) error {
	if !(s >= 0 && s <= MaxDeadlineS) {
		return badRequest{fmt.Sprintf("%s must be a number from 0 to %d", name, MaxDeadlineS)}
	}
	return nil
}

// GET; POST OverrideRequest; DELETE ?service= &backend=, or ?all=true.
const pathOverrides = "/v1/overrides"

// Override implements Changes. Service and backend may be any form that FindService and FindBackend
// accept.
func (c *Client) Override(ctx context.Context, r OverrideRequest) (b Backend, err error) {
	return b, c.do(ctx, http.MethodPost, pathOverrides, r, &b)
}

// Overrides implements Changes.
func (c *Client) Overrides(ctx context.Context) (all []Override, err error) {
	return all, c.do(ctx, http.MethodGet, pathOverrides, nil, &all)
}

// ClearOverrides implements Changes.
func (c *Client) ClearOverrides(ctx context.Context, service, backend string) (cleared []Override, err error) {
	values := url.Values{"service": {service}, "backend": {backend}}
	if service == "" {
		values = url.Values{"all": {"true"}}
	}
	return cleared, c.do(ctx, http.MethodDelete, pathOverrides+"?"+values.Encode(), nil, &cleared)
}

type overrideInput struct{ Body OverrideRequest }

func (s *Server) routeOverride() {
	route(s, huma.Operation{
		OperationID: "override", Method: http.MethodPost, Path: pathOverrides,
		Summary: "Drain, disable or enable a backend whatever the file says; returns the backend",
	}, func(ctx context.Context, in *overrideInput) (Backend, error) {
		if err := in.Body.Check(); err != nil {
			return Backend{}, err
		}
		return s.onBackend(ctx, in.Body.Service, in.Body.Backend, func(service, backend string) (Backend, error) {
			in.Body.Service, in.Body.Backend = service, backend
			return s.control.Override(ctx, in.Body)
		})
	})
}

func (s *Server) routeOverrides() {
	route(s, huma.Operation{
		OperationID: "list-overrides", Method: http.MethodGet, Path: pathOverrides,
		Summary: "The overrides that were set at run time and apply",
	}, func(ctx context.Context, _ *none) ([]Override, error) {
		all, err := s.control.Overrides(ctx)
		return orEmpty(all), err
	})
}

type clearInput struct {
	Service string `query:"service" doc:"of this service only"`
	Backend string `query:"backend" doc:"of this backend of the service only"`
	All     bool   `query:"all" doc:"true, instead of a service: all overrides"`
}

func (s *Server) routeClearOverrides() {
	route(s, huma.Operation{
		OperationID: "clear-overrides", Method: http.MethodDelete, Path: pathOverrides,
		Summary: "Remove overrides, so that the file applies again; returns what was removed",
	}, func(ctx context.Context, in *clearInput) ([]Override, error) {
		if (in.Service == "") != in.All {
			return nil, badRequest{"set service, and backend for a single one, or all=true"}
		}
		service, backend := in.Service, in.Backend
		if service != "" {
			var err error
			if service, backend, err = s.findOverridden(ctx, service, backend); err != nil {
				return nil, err
			}
		}
		cleared, err := s.control.ClearOverrides(ctx, service, backend)
		return orEmpty(cleared), err
	})
}

// findOverridden returns the names of the service, and of the backend if given, that an operator
// identifies. Services that are no longer configured may have overrides: these are matched by the
// names in the overrides.
func (s *Server) findOverridden(ctx context.Context, service, backend string) (string, string, error) {
	services, err := s.control.List(ctx)
	if Answered(err) != nil {
		return "", "", err
	}
	all, err := s.control.Overrides(ctx)
	if err != nil {
		return "", "", err
	}
	for _, o := range all {
		if o.Service == service && (backend == "" || o.Backend == canonical(backend)) {
			return service, canonical(backend), nil
		}
	}
	found, err := FindService(services, service)
	if err != nil || backend == "" {
		return found.Name, "", err
	}
	of, err := FindBackend(found, backend)
	return found.Name, of.Endpoint(), err
}
