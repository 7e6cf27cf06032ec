package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The paths of the control socket. All answers are JSON; a failure is a failureBody with a status of 400 or more.
const (
	pathServices = "/v1/services" // GET
	pathConns    = "/v1/conns"    // GET ?service= &client= &backend= &limit=
	pathStats    = "/v1/stats"    // GET
	pathWeight   = "/v1/weight"   // POST weightBody
	pathReload   = "/v1/reload"   // POST ?force=true, no body
)

// Bounds on what one client can cost.
const (
	maxBody       = 64 << 10 // bytes
	maxHeader     = 16 << 10 // bytes
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 2 * time.Minute // a million connections through a slow pipe
	idleTimeout   = time.Minute
)

// weightBody asks for another weight of a backend. Service and backend may be short forms.
type weightBody struct {
	Service string `json:"service"`
	Backend string `json:"backend"`
	Weight  *int   `json:"weight"` // a pointer, so that a missing weight is not taken for a drain
}

// failureBody is the answer to a request that failed. At most one of the named errors is there.
type failureBody struct {
	Error         string         `json:"error"` // several errors are several lines
	NoSuchService *NoSuchService `json:"no_such_service,omitempty"`
	NoSuchBackend *NoSuchBackend `json:"no_such_backend,omitempty"`
	Ambiguous     *Ambiguous     `json:"ambiguous,omitempty"`
}

// badRequest is a request that no state of the daemon could answer.
type badRequest struct{ text string }

func (e badRequest) Error() string { return e.text }

// Server offers a Control to HTTP clients.
type Server struct {
	control Control
	http    http.Server
}

// NewServer makes a server that logs its own troubles, not the requests, to logger.
func NewServer(control Control, logger *slog.Logger) *Server {
	s := &Server{control: control}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathServices, answer(s.services))
	mux.HandleFunc("GET "+pathConns, s.conns)
	mux.HandleFunc("GET "+pathStats, answer(s.stats))
	mux.HandleFunc("GET "+pathExplain, answer(s.explain))
	mux.HandleFunc("POST "+pathWeight, answer(s.weight))
	mux.HandleFunc("POST "+pathReload, answer(s.reload))
	mux.HandleFunc("GET "+pathAlarms, answer(s.alarms))
	mux.HandleFunc("POST "+pathFreeze, answer(s.freeze))
	s.handleChanges(mux)
	s.http = http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	return s
}

// Serve answers requests until Shutdown, and then returns nil.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown closes the listener at once, which removes the socket, and waits for running requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

func (s *Server) services(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	services, err := s.control.List(r.Context())
	if services == nil {
		services = []Service{}
	}
	return services, err
}

func (s *Server) stats(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	return s.control.Stats(r.Context())
}

func (s *Server) weight(r *http.Request) (any, error) {
	var body weightBody
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if body.Weight == nil || *body.Weight < 0 || *body.Weight > MaxWeight {
		return nil, badRequest{fmt.Sprintf("weight must be a number from 0 to %d", MaxWeight)}
	}
	// A client that hangs up must not leave a change half done.
	ctx := context.WithoutCancel(r.Context())
	services, err := s.control.List(ctx)
	if err != nil {
		return nil, err
	}
	service, err := FindService(services, body.Service)
	if err != nil {
		return nil, err
	}
	backend, err := FindBackend(service, body.Backend)
	if err != nil {
		return nil, err
	}
	return s.control.SetWeight(ctx, service.Name, backend.Endpoint(), *body.Weight)
}

func (s *Server) reload(r *http.Request) (any, error) {
	if n, _ := io.ReadFull(r.Body, make([]byte, 1)); n > 0 {
		return nil, badRequest{"a reload takes no body: the daemon reads its own file"}
	}
	force, err := onlyFlag(r, "force")
	if err != nil {
		return nil, err
	}
	result, err := s.control.Reload(context.WithoutCancel(r.Context()), ReloadOptions{Force: force})
	if result.Changes == nil {
		result.Changes = []string{}
	}
	return result, err
}

// conns writes one connection after the other: a table of millions must not be copied into one buffer.
func (s *Server) conns(w http.ResponseWriter, r *http.Request) {
	query, err := s.connQuery(r)
	if err != nil {
		fail(w, r, err)
		return
	}
	conns, err := s.control.Conns(r.Context(), query)
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	separator := "["
	for _, conn := range conns {
		io.WriteString(out, separator)
		if encoder.Encode(conn) != nil {
			return // the client is gone
		}
		separator = ","
	}
	if len(conns) == 0 {
		io.WriteString(out, separator)
	}
	io.WriteString(out, "]\n")
}

// connQuery reads the query of a conns request; short forms of the service become its name.
func (s *Server) connQuery(r *http.Request) (ConnQuery, error) {
	if err := onlyParameters(r, "service", "client", "backend", "limit"); err != nil {
		return ConnQuery{}, err
	}
	values := r.URL.Query()
	query := ConnQuery{Service: values.Get("service"), Client: values.Get("client"), Backend: values.Get("backend")}
	if limit := values.Get("limit"); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 0 {
			return ConnQuery{}, badRequest{fmt.Sprintf("limit %q is not a number from 0", limit)}
		}
		query.Limit = n
	}
	if query.Service != "" {
		services, err := s.control.List(r.Context())
		if err != nil {
			return ConnQuery{}, err
		}
		service, err := FindService(services, query.Service)
		if err != nil {
			return ConnQuery{}, err
		}
		query.Service = service.Name
	}
	return query, nil
}

// answer makes a handler of a function that gives the value to answer with.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc { return answerTo(maxBody, f) }

// answerTo is answer for requests of so many bytes at most.
func answerTo(limit int64, f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		value, err := f(r)
		if err != nil {
			fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, value)
	}
}

// fail answers with an error and the status that fits it.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	body := failureBody{Error: err.Error()}
	status := http.StatusInternalServerError
	if r.Method != http.MethodGet {
		status = http.StatusUnprocessableEntity // what was asked for cannot be; a wrong file, most often
	}
	switch {
	case errors.As(err, &body.NoSuchService), errors.As(err, &body.NoSuchBackend):
		status = http.StatusNotFound
	case errors.As(err, &body.Ambiguous), errors.As(err, new(badRequest)):
		status = http.StatusBadRequest
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // fails only when the client is gone
}

// readBody decodes one JSON object and nothing else.
func readBody(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return badRequest{"request body: " + err.Error()}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return badRequest{"request body: more than one JSON value"}
	}
	return nil
}

// onlyFlag reads the one query parameter that a request may have: true or false.
func onlyFlag(r *http.Request, name string) (bool, error) {
	if err := onlyParameters(r, name); err != nil {
		return false, err
	}
	switch value := r.URL.Query().Get(name); value {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, badRequest{fmt.Sprintf("%s %q is neither true nor false", name, value)}
	}
}

// onlyParameters refuses query parameters that would be ignored.
func onlyParameters(r *http.Request, legal ...string) error {
	for name := range r.URL.Query() {
		if !slices.Contains(legal, name) {
			return badRequest{fmt.Sprintf("unknown parameter %q: legal are [%s]", name, strings.Join(legal, " "))}
		}
	}
	return nil
}
