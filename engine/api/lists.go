package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// AccessControl is the part of Control about clients that may open connections.
type AccessControl interface {
	// AccessLists returns what was set at run time, and what lists the configuration has.
	AccessLists(ctx context.Context) (AccessLists, error)
	// SetAccess allows or denies a prefix until a time, over reloads and restarts. It takes the
	// place of what the configuration's lists and an earlier request say about the same prefix.
	SetAccess(ctx context.Context, r AccessRequest) (AccessEntry, error)
	// ClearAccess removes what was set at run time, and returns it.
	ClearAccess(ctx context.Context, q AccessQuery) ([]AccessEntry, error)
	// ReloadAccess reads the files of prefixes of the active configuration again. On error nothing
	// has changed.
	ReloadAccess(ctx context.Context) (ReloadResult, error)
}

// The actions of an AccessEntry.
const (
	AccessDeny  = "deny"
	AccessAllow = "allow"
)

// AccessEntry is a prefix that was denied or allowed at run time.
type AccessEntry struct {
	// Service: the name of the service, its key if it is not configured, "" for all services.
	Service string    `json:"service"`
	Prefix  string    `json:"prefix"`
	Action  string    `json:"action"` // AccessDeny or AccessAllow
	Until   time.Time `json:"until,omitzero"`
	Since   time.Time `json:"since"`
	// Configured is false if the file has no such service; the entry applies again when it has.
	Configured bool `json:"configured"`
}

// AccessLists is what decides which clients may open connections.
type AccessLists struct {
	Entries []AccessEntry `json:"entries"` // set at run time
	Lists   []AccessList  `json:"lists"`   // of the configuration
}

// AccessList is the lists of one section of the configuration.
type AccessList struct {
	Service   string `json:"service"` // "": of all services
	Allow     int    `json:"allow"`   // number of prefixes, those of the file included
	Deny      int    `json:"deny"`
	AllowFile string `json:"allow_file,omitempty"`
	DenyFile  string `json:"deny_file,omitempty"`
	Others    string `json:"others"` // what happens to clients in none: AccessDeny or AccessAllow
}

// AccessRequest is the request for an AccessEntry.
type AccessRequest struct {
	Prefix  string  `json:"prefix" doc:"a prefix such as 203.0.113.0/24, or an address"`
	Service string  `json:"service,omitempty" doc:"for this service only; a name, or a form such as tcp 198.51.100.10:80"`
	Action  string  `json:"action" enum:"deny,allow"`
	ForS    float64 `json:"for_s,omitempty" doc:"for so many seconds; 0: until it is cleared"`
}

// Check returns an error if the request is invalid whatever the services are.
func (r AccessRequest) Check() error {
	if r.Action != AccessDeny && r.Action != AccessAllow {
		return badRequest{fmt.Sprintf("action %q must be one of %s, %s", r.Action, AccessDeny, AccessAllow)}
	}
	return checkSeconds("for_s", r.ForS)
}

// AccessQuery selects entries. The zero AccessQuery selects all.
type AccessQuery struct {
	Prefix  string // "": all
	Service string // "": entries for all services if there is a Prefix, else all entries
}

// pathAccess: GET; POST AccessRequest; DELETE ?prefix= &service=, or ?all=true.
const (
	pathAccess       = "/v1/access"
	pathAccessReload = "/v1/access/reload" // POST, no body
)

// AccessLists implements AccessControl.
func (c *Client) AccessLists(ctx context.Context) (all AccessLists, err error) {
	return all, c.do(ctx, http.MethodGet, pathAccess, nil, &all)
}

// SetAccess implements AccessControl. Service may be any form that FindService accepts.
func (c *Client) SetAccess(ctx context.Context, r AccessRequest) (e AccessEntry, err error) {
	return e, c.do(ctx, http.MethodPost, pathAccess, r, &e)
}

// ClearAccess implements AccessControl.
func (c *Client) ClearAccess(ctx context.Context, q AccessQuery) (cleared []AccessEntry, err error) {
	values := url.Values{"prefix": {q.Prefix}, "service": {q.Service}}
	if q == (AccessQuery{}) {
		values = url.Values{"all": {"true"}}
	}
	return cleared, c.do(ctx, http.MethodDelete, pathAccess+"?"+values.Encode(), nil, &cleared)
}

// ReloadAccess implements AccessControl.
func (c *Client) ReloadAccess(ctx context.Context) (result ReloadResult, err error) {
	return result, c.do(ctx, http.MethodPost, pathAccessReload, nil, &result)
}

// routeAccess adds the endpoints of AccessControl.
func (s *Server) routeAccess() {
	route(s, huma.Operation{
		OperationID: "access-lists", Method: http.MethodGet, Path: pathAccess,
		Summary: "Which clients may open connections: prefixes set at run time, and the lists of the configuration",
	}, func(ctx context.Context, _ *none) (AccessLists, error) {
		all, err := s.control.AccessLists(ctx)
		all.Entries, all.Lists = orEmpty(all.Entries), orEmpty(all.Lists)
		return all, err
	})
	s.routeSetAccess()
	s.routeClearAccess()
	route(s, huma.Operation{
		OperationID: "access-reload", Method: http.MethodPost, Path: pathAccessReload,
		Summary: "Read the files of prefixes again; on error nothing changes",
	}, func(ctx context.Context, _ *none) (ReloadResult, error) {
		result, err := s.control.ReloadAccess(ctx)
		result.Changes = orEmpty(result.Changes)
		return result, err
	})
}

type accessInput struct{ Body AccessRequest }

func (s *Server) routeSetAccess() {
	route(s, huma.Operation{
		OperationID: "set-access", Method: http.MethodPost, Path: pathAccess,
		Summary:     "Deny or allow a prefix whatever the file says about it",
		Description: "Connections of clients that are denied now end: they are reset in nat and fullnat, and their packets are dropped in tun and dr.",
	}, func(ctx context.Context, in *accessInput) (AccessEntry, error) {
		if err := in.Body.Check(); err != nil {
			return AccessEntry{}, err
		}
		if in.Body.Service != "" {
			of, err := s.find(ctx, in.Body.Service)
			if err != nil {
				return AccessEntry{}, err
			}
			in.Body.Service = of.Name
		}
		return s.control.SetAccess(ctx, in.Body)
	})
}

type clearAccessInput struct {
	Prefix  string `query:"prefix" doc:"this prefix only; for all services, unless a service is given"`
	Service string `query:"service" doc:"of this service only"`
	All     bool   `query:"all" doc:"true, instead of a prefix or service: everything that was set"`
}

func (s *Server) routeClearAccess() {
	route(s, huma.Operation{
		OperationID: "clear-access", Method: http.MethodDelete, Path: pathAccess,
		Summary: "Remove what was set at run time, so that the file applies again; returns what was removed",
	}, func(ctx context.Context, in *clearAccessInput) ([]AccessEntry, error) {
		q := AccessQuery{Prefix: in.Prefix, Service: in.Service}
		if (q == AccessQuery{}) != in.All {
			return nil, badRequest{"set prefix, service or both, or all=true"}
		}
		if q.Service != "" {
			if of, err := s.find(ctx, q.Service); err == nil {
				q.Service = of.Name // else the service may be one that is no longer configured
			}
		}
		cleared, err := s.control.ClearAccess(ctx, q)
		return orEmpty(cleared), err
	})
}
