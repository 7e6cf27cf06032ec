package api

import (
	"context"
	"errors"
	"net/http"
	"time"
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
	Generation int `json:"generation"` // 0: the one before
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

func (s *Server) apply(r *http.Request) (any, error) {
	var body ApplyRequest
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if err := errors.Join(body.File.check(), checkSeconds("confirm_s", body.ConfirmS)); err != nil {
		return nil, err
	}
	return applied(s.control.Apply(context.WithoutCancel(r.Context()), body))
}

func (s *Server) confirm(r *http.Request) (any, error) {
	if err := errors.Join(onlyParameters(r), noBody(r)); err != nil {
		return nil, err
	}
	return applied(s.control.Confirm(context.WithoutCancel(r.Context())))
}

func (s *Server) rollback(r *http.Request) (any, error) {
	var body rollbackBody
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if body.Generation < 0 {
		return nil, badRequest{"generation must be a number from 0; 0 is the one before"}
	}
	return applied(s.control.Rollback(context.WithoutCancel(r.Context()), body.Generation))
}

func (s *Server) generations(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	all, err := s.control.Generations(r.Context())
	return orEmpty(all), err
}

// applied makes no changes an empty array.
func applied(result ApplyResult, err error) (any, error) {
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

// noBody refuses a body that would be ignored.
func noBody(r *http.Request) error {
	if n, _ := r.Body.Read(make([]byte, 1)); n > 0 {
		return badRequest{"this request takes no body"}
	}
	return nil
}
