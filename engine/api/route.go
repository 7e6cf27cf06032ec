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

// route adds an endpoint that answers with one JSON value. I is the input as defined by huma: a
// struct with fields for parameters (`query:"limit"`) and a Body.
func route[I, O any](s *Server, op huma.Operation, handler func(context.Context, *I) (O, error)) {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[O](), true, op.OperationID)
	stream(s, op, "application/json", schema, func(ctx context.Context, in *I) (func(io.Writer), error) {
		out, err := handler(ctx, in)
		// Encode fails only when the client has disconnected.
		return func(w io.Writer) { _ = newEncoder(w).Encode(out) }, err
	})
}

// stream adds an endpoint that writes its answer step by step. handler checks the request and
// returns the function that writes; each of its writes may take writeTimeout. The data is sent when
// net/http's buffer is full, or when the function calls flush. The workers of an Unresponsive are
// in the header of the answer.
func stream[I any](s *Server, op huma.Operation, contentType string, schema *huma.Schema,
	handler func(context.Context, *I) (func(io.Writer), error)) {
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	op.BodyReadTimeout = -1 // readBody limits it
	if op.Method != http.MethodGet {
		op.Security = tokenOnly
	}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK", Content: map[string]*huma.MediaType{contentType: {Schema: schema}},
	}}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		write, err := handler(ctx, in)
		if Answered(err) != nil {
			return nil, failed(op.Method, err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			setUnresponsive(c, err)
			c.SetHeader("Content-Type", contentType)
			_, w := humago.Unwrap(c)
			write(timedWriter{w, http.NewResponseController(w), writeTimeout})
		}}, nil
	})
}

// unresponsiveHeader has the Unresponsive beside an answer, as JSON.
const unresponsiveHeader = "Sluice-Unresponsive"

// setUnresponsive sets the header if err is an Unresponsive.
func setUnresponsive(c huma.Context, err error) {
	if u := (*Unresponsive)(nil); errors.As(err, &u) {
		text, _ := json.Marshal(u) // numbers always marshal
		c.SetHeader(unresponsiveHeader, string(text))
	}
}

// newEncoder writes JSON for programs: nothing is escaped for HTML, because no answer is part of
// HTML.
func newEncoder(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder
}

// orEmpty returns a list that is an array in JSON even if it is empty.
func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// timedWriter sets a deadline for every write: an answer may be long, but a client that reads
// nothing must be disconnected.
type timedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // for one write
}

func (w timedWriter) Write(data []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout))
	return w.ResponseWriter.Write(data)
}

// flush sends what has been written to a stream so far.
func flush(w io.Writer) {
	if timed, ok := w.(timedWriter); ok {
		_ = timed.control.Flush() // fails only when the client has disconnected
	}
}

// readBody reads a request's whole body within readTimeout and then removes that deadline: net/http
// would otherwise treat it as a disconnect by the client, in the middle of a longer answer.
func readBody(c huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(c)
	op := c.Operation()
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, op.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		(&failureBody{Text: fmt.Sprintf("request body: too large; allowed: at most %d bytes", large.Limit), status: http.StatusRequestEntityTooLarge}).write(w)
		return
	case err != nil:
		(&failureBody{Text: "request body: " + err.Error(), status: http.StatusBadRequest}).write(w)
		return
	case op.RequestBody == nil && len(data) > 0:
		(&failureBody{Text: fmt.Sprintf("%s %s takes no body", op.Method, op.Path), status: http.StatusBadRequest}).write(w)
		return
	case op.Method != http.MethodGet && clientGone(r):
		return // it does not know of an order that is carried out now
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(data))
	next(c)
}

// failureBody is the answer to a request that failed. At most one of the named errors is set.
type failureBody struct {
	Text          string         `json:"error" doc:"what is wrong, and what is allowed; one line per error"`
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
	_ = newEncoder(w).Encode(f) // fails only when the client has disconnected
}

// badRequest is a request that is invalid in any state of the daemon.
type badRequest struct{ text string }

func (e badRequest) Error() string { return e.text }

// failed returns the failure for an error, with a fitting status.
func failed(method string, err error) *failureBody {
	body := &failureBody{Text: err.Error(), status: http.StatusInternalServerError}
	if method != http.MethodGet {
		// Valid but impossible; usually an invalid file.
		body.status = http.StatusUnprocessableEntity
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

// invalid is the failure of a request that huma found to be invalid: one line for each error.
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

// huma creates its errors through these variables of the process; no other code in the process uses
// huma.
func init() {
	huma.NewError = invalid
	huma.DefaultArrayNullable = false
}
