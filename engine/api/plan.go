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
	Restart  []string `json:"restart,omitempty"`  // what waits for the next start
	Warnings []string `json:"warnings,omitempty"` // about the file
	Refused  []string `json:"refused,omitempty"`  // why a reload would not take it without force

	// Connections are those in the table; Affected are those of them whose backend would be gone:
	// their packets would be dropped.
	Connections uint64 `json:"connections"`
	Affected    uint64 `json:"connections_affected"`

	Services []ServicePlan `json:"services"` // those that would change, come or go
}

// What a plan does with a service or backend.
const (
	PlanSame   = "same"
	PlanAdd    = "add"
	PlanChange = "change"
	PlanRemove = "remove"
)

// ServicePlan is what would become of one service.
type ServicePlan struct {
	Name        string `json:"name"`
	Key         string `json:"key"`
	Does        string `json:"does"` // PlanAdd, PlanChange or PlanRemove
	Connections uint64 `json:"connections"`
	Affected    uint64 `json:"connections_affected"`

	// ClientsMoved is the share, 0 to 1, of all possible clients (dh: of service addresses) that
	// sh, dh and mh would send to another backend than now when they open their next connection.
	// Nil: the scheduler goes by load or by turns, so that no client belongs to a backend.
	ClientsMoved *float64      `json:"clients_moved,omitempty"`
	Backends     []BackendPlan `json:"backends"` // those that would change, come or go
}

// BackendPlan is what would become of one backend.
type BackendPlan struct {
	Backend     string `json:"backend"`
	Does        string `json:"does"`
	Weight      int    `json:"weight"`     // now, run-time overrides included
	NewWeight   int    `json:"new_weight"` // the same, afterwards
	Connections uint64 `json:"connections"`
	Override    string `json:"override,omitempty"` // that would hold afterwards
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
		Summary: "Compare a configuration, or without a text the daemon's file, with what runs; nothing changes",
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
