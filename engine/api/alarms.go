package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Alarm is a condition that an operator should look at. It lasts as long as the condition.
type Alarm struct {
	Kind    string  `json:"kind"`              // one of the constants below
	Service string  `json:"service,omitempty"` // Service.Name; "": the whole daemon
	Text    string  `json:"text"`              // one sentence, with advice
	SinceS  float64 `json:"since_s"`           // seconds since it started
}

// Kinds of alarm.
const (
	AlarmProtected = "pool_protected" // checks fail for so many backends that some stay in use
	// AlarmNoBackend: no backend is up: new connections are refused, or go to the sorry server.
	AlarmNoBackend = "no_backend"
	// AlarmUnreachable: no packet can be sent to a backend: no route, or no neighbour.
	AlarmUnreachable = "backend_unreachable"
	// AlarmDirect: checks of tun and dr backends cannot use the path of their mode.
	AlarmDirect = "checks_direct"
	// AlarmNotRun: checks cannot be run, because this host lacks file descriptors, ports or memory.
	AlarmNotRun = "checks_not_run"
	// AlarmDetached: another process has detached the XDP program from a port.
	AlarmDetached = "xdp_detached"
	// AlarmToKernel: what nat backends send of their own accord does not reach the kernel.
	AlarmToKernel = "to_kernel_failed"
	AlarmFrozen   = "health_frozen" // an operator has frozen the backends' states
	AlarmStuck    = "worker_stuck"  // a worker does not answer: its queues are not served
	// AlarmFirst: most SYNs are the only packet of their client: see FirstPackets.
	AlarmFirst    = "syn_flood"
	AlarmPressure = "pressure" // new connections find no free entry or SNAT port: see Pressure
)

// AlarmKinds returns the kinds.
func AlarmKinds() []string {
	return []string{AlarmProtected, AlarmNoBackend, AlarmUnreachable, AlarmDirect, AlarmNotRun, AlarmDetached, AlarmToKernel, AlarmFrozen, AlarmStuck, AlarmPressure, AlarmFirst}
}

// maxAlike is how many alarms of one kind are told one by one.
const maxAlike = 3

// AlarmTexts returns a sentence for each alarm, or one for all of a kind if there are many.
func AlarmTexts(alarms []Alarm) (out []string) {
	count := make(map[string]int)
	for _, a := range alarms {
		count[a.Kind]++
	}
	for _, a := range alarms {
		text := a.Text
		if a.Service != "" {
			text = "service " + a.Service + ": " + text
		}
		switch n := count[a.Kind]; {
		case n > maxAlike:
			out = append(out, fmt.Sprintf("%d times %s, for example %s", n, a.Kind, text))
			count[a.Kind] = 0
		case n > 0:
			out = append(out, text)
		}
	}
	return out
}

// AlarmControl is the part of Control about alarms and about health checks as a whole.
type AlarmControl interface {
	// Alarms returns the active alarms, in the order of the services.
	Alarms(ctx context.Context) ([]Alarm, error)

	// FreezeHealth keeps the states of a service's backends as they are, whatever the checks
	// report, until it is called again with false. The service is identified by Service.Name; "":
	// all services, including those of later configurations. It returns the names of all services
	// that are frozen afterwards. Its error is NoSuchService.
	FreezeHealth(ctx context.Context, service string, frozen bool) ([]string, error)
}

const (
	pathAlarms = "/v1/alarms"        // GET
	pathFreeze = "/v1/health/freeze" // POST freezeBody
)

// freezeBody is the request for FreezeHealth. The service may be a short form.
type freezeBody struct {
	Service string `json:"service" required:"false" doc:"a name or another form that identifies one; empty: all, including later ones"`
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
		Summary: "The active alarms",
	}, func(ctx context.Context, _ *none) ([]Alarm, error) {
		alarms, err := s.control.Alarms(ctx)
		return orEmpty(alarms), err
	})
}

func (s *Server) routeFreeze() {
	route(s, huma.Operation{
		OperationID: "freeze-health", Method: http.MethodPost, Path: pathFreeze,
		Summary: "Freeze or thaw the states of backends",
	}, func(ctx context.Context, in *freezeInput) (freezeResult, error) {
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

// FreezeHealth implements Control. The service may be any form that FindService accepts.
func (c *Client) FreezeHealth(ctx context.Context, service string, frozen bool) ([]string, error) {
	var result freezeResult
	err := c.do(ctx, http.MethodPost, pathFreeze, freezeBody{service, frozen}, &result)
	return result.Frozen, err
}
