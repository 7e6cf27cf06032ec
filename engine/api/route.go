package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// route adds an endpoint that answers with one JSON value. I is the input as huma knows it: a
// struct with fields for parameters (`query:"limit"`) and a Body.
func route[I, O any](s *Server, op huma.Operation, handler func(context.Context, *I) (O, error)) {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[O](), true, op.OperationID)
	stream(s, op, "application/json", schema, func(ctx context.Context, in *I) (func(io.Writer), error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, err
		}
		return func(w io.Writer) { _ = newEncoder(w).Encode(out) }, nil // fails only when the client is gone
	})
}

// stream adds an endpoint whose answer is written bit by bit. handler checks the request and gives
// the function that writes; each of its writes may take writeTimeout. What it writes is sent when
// net/http's buffer is full, or when it calls flush.
func stream[I any](s *Server, op huma.Operation, contentType string, schema *huma.Schema,
	handler func(context.Context, *I) (func(io.Writer), error)) {
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	op.BodyReadTimeout = -1 // takeBody has seen to it
	if op.Method != http.MethodGet {
		op.Security = tokenOnly
	}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK", Content: map[string]*huma.MediaType{contentType: {Schema: schema}},
	}}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		write, err := handler(ctx, in)
		if err != nil {
			return nil, failed(op.Method, err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			c.SetHeader("Content-Type", contentType)
			_, w := humago.Unwrap(c)
			write(patientWriter{w, http.NewResponseController(w), writeTimeout})
		}}, nil
	})
}

// newEncoder writes JSON for machines: nothing is escaped for HTML, which no answer is part of.
func newEncoder(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder
}

// orEmpty is a list that is an array in JSON even if nothing is in it.
func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// patientWriter gives every write its own deadline: an answer may be long, a client that takes
// nothing may not stay.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration // one write may take
}

func (w patientWriter) Write(data []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.patience))
	return w.ResponseWriter.Write(data)
}

// flush sends what has been written to a stream so far.
func flush(w io.Writer) {
	if patient, ok := w.(patientWriter); ok {
		_ = patient.control.Flush() // fails only when the client is gone
	}
}

// takeBody reads a request's body as a whole, within readTimeout, and then ends that time: net/http
// would otherwise take its end for the client's, in the middle of an answer that takes longer.
func takeBody(c huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(c)
	op := c.Operation()
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, op.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		(&failureBody{Text: fmt.Sprintf("request body: too large, at most %d bytes are taken", large.Limit), status: http.StatusRequestEntityTooLarge}).write(w)
		return
	case err != nil:
		(&failureBody{Text: "request body: " + err.Error(), status: http.StatusBadRequest}).write(w)
		return
	case op.RequestBody == nil && len(data) > 0:
		(&failureBody{Text: fmt.Sprintf("%s %s takes no body", op.Method, op.Path), status: http.StatusBadRequest}).write(w)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(data))
	next(c)
}

// failureBody is the answer to a request that failed. At most one of the named errors is there.
type failureBody struct {
	Text          string         `json:"error" doc:"what is wrong, and what would be right; several errors are several lines"`
	NoSuchService *NoSuchService `json:"no_such_service,omitempty"`
	NoSuchBackend *NoSuchBackend `json:"no_such_backend,omitempty"`
	Ambiguous     *Ambiguous     `json:"ambiguous,omitempty"`

	status int
}

func (f *failureBody) Error() string  { return f.Text }
func (f *failureBody) GetStatus() int { return f.status }

// write answers with the failure where huma does not.
func (f *failureBody) write(w http.ResponseWriter) {
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = newEncoder(w).Encode(f) // fails only when the client is gone
}

// badRequest is a request that no state of the daemon could answer.
type badRequest struct{ text string }

func (e badRequest) Error() string { return e.text }

// failed gives an error the status that fits it.
func failed(method string, err error) *failureBody {
	body := &failureBody{Text: err.Error(), status: http.StatusInternalServerError}
	if method != http.MethodGet {
		body.status = http.StatusUnprocessableEntity // what was asked for cannot be; a wrong file, most often
	}
	switch {
	case errors.As(err, &body.NoSuchService), errors.As(err, &body.NoSuchBackend):
		body.status = http.StatusNotFound
	case errors.As(err, &body.Ambiguous), errors.As(err, new(badRequest)):
		body.status = http.StatusBadRequest
	case errors.Is(err, errManyStreams), errors.Is(err, errManyScans):
		body.status = http.StatusServiceUnavailable
	}
	return body
}

// invalid is the failure of a request that huma found to be wrong: one line for each thing.
func invalid(status int, text string, errs ...error) huma.StatusError {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	var lines []string
	for _, err := range errs {
		line := err.Error()
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			line = detail.Message
			if detail.Location != "" {
				line = detail.Location + ": " + line
			}
		}
		lines = append(lines, line)
	}
	if lines != nil {
		text = strings.Join(lines, "\n")
	}
	return &failureBody{Text: text, status: status}
}

// huma makes its errors through these variables, which belong to the process; nobody else in it
// uses huma.
func init() {
	huma.NewError = invalid
	huma.DefaultArrayNullable = false
}
