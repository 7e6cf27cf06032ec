package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Plan is what a configuration would change.
type Plan struct {
	File     string   `json:"file"`
	Changes  []string `json:"changes"`            // what a reload would do
	Restart  []string `json:"restart,omitempty"`  // what requires a restart
	Warnings []string `json:"warnings,omitempty"` // about the file
	Refused  []string `json:"refused,omitempty"`  // why a reload would refuse it without force

	// Connections counts those in the table; Affected counts those of them that would lose their
	// backend: it is removed, and its service is as well or resets them (on_remove). Those of other
	// removed backends continue.
	Connections uint64 `json:"connections"`
	Affected    uint64 `json:"connections_affected"`

	Services []ServicePlan `json:"services"` // those that would be added, changed or removed
}

// What a plan does with a service or backend.
const (
	PlanSame   = "same"
	PlanAdd    = "add"
	PlanChange = "change"
	PlanRemove = "remove"
)

// ServicePlan is the effect on one service.
type ServicePlan struct {
	Name        string `json:"name"`
	Key         string `json:"key"`
	Does        string `json:"does"` // PlanAdd, PlanChange or PlanRemove
	Connections uint64 `json:"connections"`
	Affected    uint64 `json:"connections_affected"`

	// ClientsMoved is the portion, 0 to 1, of all possible clients (dh: of service addresses) for
	// which sh, dh and mh would choose another backend than now for their next connection. Nil: the
	// scheduler goes by load or in turn, so that clients have no fixed backend.
	ClientsMoved *float64      `json:"clients_moved,omitempty"`
	Backends     []BackendPlan `json:"backends"` // those that would be added, changed or removed
}

// BackendPlan is the effect on one backend.
type BackendPlan struct {
	Backend     string `json:"backend"`
	Does        string `json:"does"`
	Weight      int    `json:"weight"`     // at present, run-time overrides included
	NewWeight   int    `json:"new_weight"` // the same, afterwards
	Connections uint64 `json:"connections"`
	Affected    uint64 `json:"connections_affected"`
	Override    string `json:"override,omitempty"` // that would apply afterwards
}

const pathPlan = "/v1/plan" // POST File

// Plan implements Changes.
func (c *Client) Plan(ctx context.Context, f File) (plan Plan, err error) {
	return plan, c.do(ctx, http.MethodPost, pathPlan, f, &plan)
}

type planInput struct{ Body File }

func (s *Server) routePlan() {
	route(s, huma.Operation{
		OperationID: "plan", Method: http.MethodPost, Path: pathPlan, MaxBodyBytes: maxFileBody,
		Summary: "Compare a configuration, or without a text the daemon's file, with the active one; nothing changes",
	}, func(ctx context.Context, in *planInput) (Plan, error) {
		if in.Body.Name != "" && in.Body.Text == "" {
			return Plan{}, in.Body.check()
		}
		plan, err := s.control.Plan(ctx, in.Body)
		plan.Changes, plan.Services = orEmpty(plan.Changes), orEmpty(plan.Services)
		for i := range plan.Services {
			plan.Services[i].Backends = orEmpty(plan.Services[i].Backends)
		}
		return plan, err
	})
}
