package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Generation is a configuration that ran at some time.
type Generation struct {
	Number  int       `json:"number"`
	Loaded  time.Time `json:"loaded"`
	Cause   string    `json:"cause"`  // what made it run: start, reload, apply, rollback
	SHA256  string    `json:"sha256"` // of its text, in hexadecimal
	Running bool      `json:"running"`
}

// ApplyRequest asks for another configuration.
type ApplyRequest struct {
	File     File    `json:"file"` // its text is required
	ConfirmS float64 `json:"confirm_s,omitempty"`
	Force    bool    `json:"force,omitempty"` // as in ReloadOptions
}

// ApplyResult says what became the running configuration.
type ApplyResult struct {
	ReloadResult
	Generation int      `json:"generation"`        // that runs now
	Pending    *Pending `json:"pending,omitempty"` // it waits for a confirm; nil: it is permanent
}

const (
	pathApply       = "/v1/apply"       // POST ApplyRequest
	pathConfirm     = "/v1/confirm"     // POST, no body
	pathRollback    = "/v1/rollback"    // POST rollbackBody
	pathGenerations = "/v1/generations" // GET
)

// maxFileBody bounds a request that carries a file: the largest one that there can be, as JSON.
const maxFileBody = 40 << 20

// rollbackBody asks for an earlier configuration.
type rollbackBody struct {
	Generation int `json:"generation" required:"false" minimum:"0" doc:"0: the one before"`
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
		Summary: "Make a configuration the running one, for good or until the time for its confirmation is over",
	}, func(ctx context.Context, in *applyInput) (ApplyResult, error) {
		if err := errors.Join(in.Body.File.check(), checkSeconds("confirm_s", in.Body.ConfirmS)); err != nil {
			return ApplyResult{}, err
		}
		return applied(s.control.Apply(context.WithoutCancel(ctx), in.Body))
	})
}

func (s *Server) routeConfirm() {
	route(s, huma.Operation{
		OperationID: "confirm", Method: http.MethodPost, Path: pathConfirm,
		Summary: "Make the configuration that waits for it permanent",
	}, func(ctx context.Context, _ *none) (ApplyResult, error) {
		return applied(s.control.Confirm(context.WithoutCancel(ctx)))
	})
}

type rollbackInput struct{ Body rollbackBody }

func (s *Server) routeRollback() {
	route(s, huma.Operation{
		OperationID: "rollback", Method: http.MethodPost, Path: pathRollback,
		Summary: "Make an earlier configuration the running one",
	}, func(ctx context.Context, in *rollbackInput) (ApplyResult, error) {
		return applied(s.control.Rollback(context.WithoutCancel(ctx), in.Body.Generation))
	})
}

func (s *Server) routeGenerations() {
	route(s, huma.Operation{
		OperationID: "list-generations", Method: http.MethodGet, Path: pathGenerations,
		Summary: "The configurations that are kept, the latest first",
	}, func(ctx context.Context, _ *none) ([]Generation, error) {
		all, err := s.control.Generations(ctx)
		return orEmpty(all), err
	})
}

// applied makes no changes an empty array.
func applied(result ApplyResult, err error) (ApplyResult, error) {
	result.Changes = orEmpty(result.Changes)
	return result, err
}

// check says what is wrong with a file that must have a text.
func (f File) check() error {
	if f.Text == "" {
		return badRequest{"the file is empty"}
	}
	return nil
}
