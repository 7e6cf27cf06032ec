package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Status is what an operator wants to know first. All times are those of the daemon's clock.
type Status struct {
	Version   string       `json:"version"`
	UptimeS   float64      `json:"uptime_s"`
	Workers   int          `json:"workers"`
	Config    ConfigStatus `json:"config"`
	Reload    ReloadStatus `json:"reload"`
	Pending   *Pending     `json:"pending,omitempty"` // waits for a confirm
	Alarms    []Alarm      `json:"alarms"`
	Overrides []Override   `json:"overrides"`
	StateDir  string       `json:"state_dir"`             // where overrides and generations are kept; "": in memory only
	StateErr  string       `json:"state_error,omitempty"` // why they are in memory only although a directory is configured

	HTTP    string `json:"http"`                 // [api] http: the address for the network; "": off, as configured
	HTTPErr string `json:"http_error,omitempty"` // why nothing answers there

	// Attention says in a sentence each what is not as it should be; empty: all is well.
	Attention []string `json:"attention"`
}

// ConfigStatus is the configuration that runs.
type ConfigStatus struct {
	File       string    `json:"file"`       // path of the daemon's file; "": it was started without one
	Generation int       `json:"generation"` // counts the configurations that ever ran
	Loaded     time.Time `json:"loaded"`
	SHA256     string    `json:"sha256"` // of the text, in hexadecimal
	// FileDiffers says that the file has other text by now: what a reload would change, a plan
	// says.
	FileDiffers bool `json:"file_differs"`
	Services    int  `json:"services"`
	Backends    int  `json:"backends"`
}

// ReloadStatus is how the last reload ended: Reload, SIGHUP, Apply, Confirm or Rollback. Before the
// first one it is the start.
type ReloadStatus struct {
	OK    bool      `json:"ok"`
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // several are several lines
}

// Pending is a configuration that runs until its deadline unless it is confirmed.
type Pending struct {
	Generation int       `json:"generation"`
	Deadline   time.Time `json:"deadline"`
	LeftS      float64   `json:"left_s"`
}

const pathStatus = "/v1/status" // GET

// Status implements Changes.
func (c *Client) Status(ctx context.Context) (status Status, err error) {
	return status, c.do(ctx, http.MethodGet, pathStatus, nil, &status)
}

func (s *Server) routeStatus() {
	route(s, huma.Operation{
		OperationID: "status", Method: http.MethodGet, Path: pathStatus,
		Summary: "What runs, since when, and what needs somebody's attention",
	}, func(ctx context.Context, _ *none) (Status, error) {
		status, err := s.control.Status(ctx)
		s.presence.tell(&status)
		status.Alarms, status.Overrides, status.Attention = orEmpty(status.Alarms), orEmpty(status.Overrides), orEmpty(status.Attention)
		return status, err
	})
}
