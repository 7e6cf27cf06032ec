package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Generation is a stored configuration.
type Generation struct {
	Number  int       `json:"number"`
	Loaded  time.Time `json:"loaded"`
	Cause   string    `json:"cause"`  // what activated it: start, reload, apply, rollback
	SHA256  string    `json:"sha256"` // of its text, hexadecimal
	Running bool      `json:"running"`
}

// ApplyRequest is the request for another configuration.
type ApplyRequest struct {
	File     File    `json:"file"` // the text is required
	ConfirmS float64 `json:"confirm_s,omitempty"`
	Force    bool    `json:"force,omitempty"` // as in ReloadOptions
}

// ApplyResult is the result of activating a configuration.
type ApplyResult struct {
	ReloadResult
	Generation int      `json:"generation"`        // the active one
	Pending    *Pending `json:"pending,omitempty"` // waiting for a confirm; nil: permanent
}

const (
	pathApply       = "/v1/apply"       // POST ApplyRequest
	pathConfirm     = "/v1/confirm"     // POST, no body
	pathRollback    = "/v1/rollback"    // POST rollbackBody
	pathGenerations = "/v1/generations" // GET
)

// maxFileBody limits a request that has a file: the largest possible file as JSON.
const maxFileBody = 80 << 20

// rollbackBody is the request for an earlier configuration.
type rollbackBody struct {
	Generation int `json:"generation" required:"false" minimum:"0" doc:"0: the previous one"`
}

// Apply implements Changes.
func (c *Client) Apply(ctx context.Context, r ApplyRequest) (result ApplyResult, err error) {
	return result, c.do(ctx, http.MethodPost, pathApply, r, &result)
}

// Confirm implements Changes.
func (c *Client) Confirm(ctx context.Context) (result ApplyResult, err error) {
	return result, c.do(ctx, http.MethodPost, pathConfirm, nil, &result)
}

// Rollback implements Changes.
func (c *Client) Rollback(ctx context.Context, generation int) (result ApplyResult, err error) {
	return result, c.do(ctx, http.MethodPost, pathRollback, rollbackBody{generation}, &result)
}

// Generations implements Changes.
func (c *Client) Generations(ctx context.Context) (all []Generation, err error) {
	return all, c.do(ctx, http.MethodGet, pathGenerations, nil, &all)
}

type applyInput struct{ Body ApplyRequest }

func (s *Server) routeApply() {
	route(s, huma.Operation{
		OperationID: "apply", Method: http.MethodPost, Path: pathApply, MaxBodyBytes: maxFileBody,
		Summary: "Activate a configuration, permanently or until the time for its confirmation has passed",
	}, func(ctx context.Context, in *applyInput) (ApplyResult, error) {
		if err := errors.Join(in.Body.File.check(), checkSeconds("confirm_s", in.Body.ConfirmS)); err != nil {
			return ApplyResult{}, err
		}
		return applied(s.control.Apply(ctx, in.Body))
	})
}

func (s *Server) routeConfirm() {
	route(s, huma.Operation{
		OperationID: "confirm", Method: http.MethodPost, Path: pathConfirm,
		Summary: "Make the pending configuration permanent",
	}, func(ctx context.Context, _ *none) (ApplyResult, error) {
		return applied(s.control.Confirm(ctx))
	})
}

type rollbackInput struct{ Body rollbackBody }

func (s *Server) routeRollback() {
	route(s, huma.Operation{
		OperationID: "rollback", Method: http.MethodPost, Path: pathRollback,
		Summary: "Activate an earlier configuration",
	}, func(ctx context.Context, in *rollbackInput) (ApplyResult, error) {
		return applied(s.control.Rollback(ctx, in.Body.Generation))
	})
}

func (s *Server) routeGenerations() {
	route(s, huma.Operation{
		OperationID: "list-generations", Method: http.MethodGet, Path: pathGenerations,
		Summary: "The stored configurations, the latest first",
	}, func(ctx context.Context, _ *none) ([]Generation, error) {
		all, err := s.control.Generations(ctx)
		return orEmpty(all), err
	})
}

// applied replaces missing changes by an empty array.
func applied(result ApplyResult, err error) (ApplyResult, error) {
	result.Changes = orEmpty(result.Changes)
	return result, err
}

// check returns an error if a file that must have a text has none.
func (f File) check() error {
	if f.Text == "" {
		return badRequest{"the file is empty"}
	}
	return nil
}
