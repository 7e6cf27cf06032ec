package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Alarm is something that an operator should look at, for as long as it holds.
type Alarm struct {
	Kind    string  `json:"kind"`              // one of the constants below
	Service string  `json:"service,omitempty"` // Service.Name; "": it is about the whole daemon
	Text    string  `json:"text"`              // one sentence, with what to do about it
	SinceS  float64 `json:"since_s"`           // seconds since it was raised
}

// Kinds of alarm.
const (
	AlarmProtected = "pool_protected" // checks fail for so many backends that some are used all the same
	AlarmNoBackend = "no_backend"     // no backend is up: new connections are refused, or go to the sorry server
	AlarmDirect    = "checks_direct"  // checks of tun and dr backends can't take the path of their mode
	AlarmFrozen    = "health_frozen"  // an operator has frozen what checks decide
)

// AlarmKinds lists the kinds.
func AlarmKinds() []string {
	return []string{AlarmProtected, AlarmNoBackend, AlarmDirect, AlarmFrozen}
}

// AlarmControl is the part of Control about alarms and about health checks as a whole.
type AlarmControl interface {
	// Alarms gives what is wrong now, in the order of the services.
	Alarms(ctx context.Context) ([]Alarm, error)

	// FreezeHealth keeps the states of a service's backends as they are, whatever the checks say,
	// until it is called again with false. The service is named by Service.Name; "": all services,
	// those included that a later configuration brings. It gives the names of all services that are
	// frozen then. Its error is NoSuchService.
	FreezeHealth(ctx context.Context, service string, frozen bool) ([]string, error)
}

const (
	pathAlarms = "/v1/alarms"        // GET
	pathFreeze = "/v1/health/freeze" // POST freezeBody
)

// freezeBody asks for FreezeHealth. The service may be a short form.
type freezeBody struct {
	Service string `json:"service" required:"false" doc:"in any form that names one; empty: all, those to come included"`
	Frozen  bool   `json:"frozen"`
}

type freezeInput struct{ Body freezeBody }

// freezeResult is the answer.
type freezeResult struct {
	Frozen []string `json:"frozen" doc:"names of services"`
}

func (s *Server) routeAlarms() {
	route(s, huma.Operation{
		OperationID: "list-alarms", Method: http.MethodGet, Path: pathAlarms,
		Summary: "What an operator should look at now",
	}, func(ctx context.Context, _ *none) ([]Alarm, error) {
		alarms, err := s.control.Alarms(ctx)
		return orEmpty(alarms), err
	})
}

func (s *Server) routeFreeze() {
	route(s, huma.Operation{
		OperationID: "freeze-health", Method: http.MethodPost, Path: pathFreeze,
		Summary: "Keep the states of backends as they are, whatever the checks say, or no longer",
	}, func(ctx context.Context, in *freezeInput) (freezeResult, error) {
		ctx = context.WithoutCancel(ctx)
		name := ""
		if in.Body.Service != "" {
			service, err := s.find(ctx, in.Body.Service)
			if err != nil {
				return freezeResult{}, err
			}
			name = service.Name
		}
		frozen, err := s.control.FreezeHealth(ctx, name, in.Body.Frozen)
		if frozen == nil {
			frozen = []string{}
		}
		return freezeResult{frozen}, err
	})
}

// Alarms implements Control.
func (c *Client) Alarms(ctx context.Context) (alarms []Alarm, err error) {
	return alarms, c.do(ctx, http.MethodGet, pathAlarms, nil, &alarms)
}

// FreezeHealth implements Control. The service may be any form that FindService knows.
func (c *Client) FreezeHealth(ctx context.Context, service string, frozen bool) ([]string, error) {
	var result freezeResult
	err := c.do(ctx, http.MethodPost, pathFreeze, freezeBody{service, frozen}, &result)
	return result.Frozen, err
}
