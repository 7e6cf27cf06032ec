package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// UpgradeRequest asks the daemon to let a new process take its place.
type UpgradeRequest struct {
	Binary   string  `json:"binary,omitempty" doc:"the program, an absolute path; none: the path that the daemon was started from"`
	TimeoutS float64 `json:"timeout_s,omitempty" doc:"how long the new process may take to prepare; 0: 30 s"`
}

// Upgrade is a process that has taken the place of another one.
type Upgrade struct {
	From        Process `json:"from"`
	To          Process `json:"to"`
	Connections int     `json:"connections"`      // that go on
	Lost        int     `json:"lost_connections"` // that do not
	GapS        float64 `json:"gap_s"`            // for how long no worker ran
}

// Process is a daemon's process.
type Process struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// String describes the process.
func (p Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Version, p.PID) }

// String describes the upgrade in one line.
func (u *Upgrade) String() string {
	s := fmt.Sprintf("upgraded from version %s to %s: %d connections, gap %.0f ms", u.From, u.To, u.Connections, u.GapS*1000)
	if u.Lost > 0 {
		s += fmt.Sprintf("; %d connections lost", u.Lost)
	}
	return s
}

// Bounds on UpgradeRequest.TimeoutS; the greatest is below the client's own.
const (
	DefaultUpgradeTimeout = 30 * time.Second
	MaxUpgradeTimeout     = 100 * time.Second
)

// Upgrader lets a new process take the daemon's place. On error the daemon goes on as it was.
type Upgrader func(context.Context, UpgradeRequest) (Upgrade, error)

const pathUpgrade = "/v1/upgrade" // POST UpgradeRequest; on the control socket only

// Upgrade makes the daemon start another program, or its own again, which takes its place.
func (c *Client) Upgrade(ctx context.Context, r UpgradeRequest) (u Upgrade, err error) {
	return u, c.do(ctx, http.MethodPost, pathUpgrade, r, &u)
}

// OfferUpgrade makes the server answer requests for an upgrade. It is called before Serve.
func (s *Server) OfferUpgrade(upgrade Upgrader) { s.upgrade = upgrade }

// Upgraded makes the status say how this process took the place of another one. It is called before
// Serve.
func (s *Server) Upgraded(u *Upgrade) { s.upgraded = u }

type upgradeInput struct{ Body UpgradeRequest }

func (s *Server) routeUpgrade() {
	route(s, huma.Operation{
		OperationID: "upgrade", Method: http.MethodPost, Path: pathUpgrade,
		Summary: "Let a new process take the daemon's place, with all connections",
		Description: "On the control socket only, because it runs a program. The answer comes when the new process runs, " +
			"and is the last one of the former process.",
	}, func(ctx context.Context, in *upgradeInput) (Upgrade, error) {
		switch {
		case !callerOf(ctx).all:
			return Upgrade{}, badRequest{"upgrade is possible on the control socket only, because it runs a program"}
		case s.upgrade == nil:
			return Upgrade{}, errors.New("this daemon cannot be upgraded while it runs")
		case in.Body.TimeoutS < 0 || in.Body.TimeoutS > MaxUpgradeTimeout.Seconds():
			return Upgrade{}, badRequest{fmt.Sprintf("timeout_s: must be from 0 to %.0f", MaxUpgradeTimeout.Seconds())}
		}
		return s.upgrade(ctx, in.Body)
	})
}

// Timeout returns how long the new process may take to prepare.
func (r *UpgradeRequest) Timeout() time.Duration {
	if r.TimeoutS == 0 {
		return DefaultUpgradeTimeout
	}
	return time.Duration(r.TimeoutS * float64(time.Second))
}
