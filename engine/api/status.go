package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Status is an overview for operators. All times are those of the daemon's clock.
type Status struct {
	Version string       `json:"version"`
	UptimeS float64      `json:"uptime_s"`
	Workers int          `json:"workers"`
	Config  ConfigStatus `json:"config"`
	Reload  ReloadStatus `json:"reload"`
	// Takeover is what went on from a daemon that ended before; nil: nothing did.
	Takeover *Takeover `json:"takeover,omitempty"`
	// Upgrade is how this process took the place of another one that ran; nil: it did not.
	Upgrade *Upgrade `json:"upgrade,omitempty"`
	Pending *Pending `json:"pending,omitempty"` // waiting for a confirm
	// Restart lists changes that the running configuration has, and that take effect at the next
	// start.
	Restart  []string      `json:"restart"`
	Backends BackendCounts `json:"backends"`
	// Down lists the backends that are down, in the order of the configuration; at most MaxDown of
	// the Backends.Down that there are. List has all.
	Down     []DownBackend `json:"down"`
	Alarms   []Alarm       `json:"alarms"`
	Pressure []Pressure    `json:"pressure"` // services under pressure: each has an alarm, too
	// FirstPackets describes the services with many first packets: an alarm only if Flood.
	FirstPackets []FirstPackets `json:"first_packets"`
	Overrides    []Override     `json:"overrides"`
	// StateDir is the directory of overrides and generations; "": in memory only.
	StateDir string `json:"state_dir"`
	// StateErr is why they are in memory only although a directory is configured.
	StateErr string `json:"state_error,omitempty"`

	// HTTP is the address of [api] http; "": turned off by configuration.
	HTTP    string `json:"http"`
	HTTPErr string `json:"http_error,omitempty"` // why the address is not served

	// Attention lists what needs attention, one sentence each; empty: nothing does.
	Attention []string `json:"attention"`
}

// Takeover is what a daemon has from one that ended before.
type Takeover struct {
	Connections int     `json:"connections"`      // that go on
	Lost        int     `json:"lost_connections"` // that do not, although their time was not over
	Queues      int     `json:"queues"`           // sockets that go on; 0: all were opened again
	AwayS       float64 `json:"away_s"`           // without a daemon, if sockets go on
	Received    int     `json:"received"`         // frames that had waited on these
	Discarded   bool    `json:"discarded"`        // because they had waited for too long
	Sending     int     `json:"sending"`          // frames that waited for transmission
	Repaired    int     `json:"repaired"`         // frames that were neither on a ring nor free
	LostInCrash uint64  `json:"lost_in_crash"`    // received, and neither sent on nor dropped
	Error       string  `json:"error,omitempty"`  // why all sockets were opened again
	// ConnectionsError is why connections did not go on besides those that Lost counts: how many is
	// not known
	ConnectionsError string `json:"connections_error,omitempty"`
}

// MaxDown is the greatest length of Status.Down.
const MaxDown = 100

// DownBackend is a backend that is down.
type DownBackend struct {
	Service   string  `json:"service"`
	Backend   string  `json:"backend"`             // Backend.Endpoint
	StateName string  `json:"state_name"`          // Backend.StateName
	Protected bool    `json:"protected,omitempty"` // Backend.Protected
	SinceS    float64 `json:"since_s"`             // Backend.StateSinceS
	Why       string  `json:"why"`                 // Why of it
}

// ConfigStatus is the active configuration.
type ConfigStatus struct {
	File       string    `json:"file"`       // path of the daemon's file; "": started without one
	Generation int       `json:"generation"` // number of configurations activated so far
	Loaded     time.Time `json:"loaded"`
	SHA256     string    `json:"sha256"` // of the text, hexadecimal
	// FileDiffers is true if the file differs from the active configuration; Plan returns what a
	// reload would change.
	FileDiffers bool `json:"file_differs"`
	Services    int  `json:"services"`
	Backends    int  `json:"backends"`
}

// ReloadStatus is the result of the last reload: Reload, SIGHUP, Apply, Confirm or Rollback. Before
// the first one it is the start.
type ReloadStatus struct {
	OK    bool      `json:"ok"`
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // one line per error
}

// Pending is a configuration that is reverted at its deadline unless it is confirmed.
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
		Summary: "What is active, since when, and what needs attention",
	}, func(ctx context.Context, _ *none) (Status, error) {
		status, err := s.control.Status(ctx)
		s.presence.tell(&status)
		status.Upgrade = s.upgraded
		status.Alarms, status.Overrides, status.Attention = orEmpty(status.Alarms), orEmpty(status.Overrides), orEmpty(status.Attention)
		status.Restart, status.Down, status.Pressure = orEmpty(status.Restart), orEmpty(status.Down), orEmpty(status.Pressure)
		status.FirstPackets = orEmpty(status.FirstPackets)
		return status, err
	})
}
