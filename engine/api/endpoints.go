package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// none is the input of an endpoint without input.
type none struct{}

// find returns the service that any form of its name identifies.
func (s *Server) find(ctx context.Context, text string) (Service, error) {
	services, err := s.control.List(ctx)
	if Answered(err) != nil {
		return Service{}, err
	}
	return FindService(services, text)
}

// onBackend calls do with the daemon's own names of the backend that an operator means by any form
// of its name and its service's. If the forms are those names, nothing is asked before do.
func (s *Server) onBackend(ctx context.Context, service, backend string, do func(service, backend string) (Backend, error)) (Backend, error) {
	b, err := do(service, canonical(backend))
	if !errors.As(err, new(*NoSuchService)) && !errors.As(err, new(*NoSuchBackend)) {
		return named(b), err
	}
	of, err := s.find(ctx, service)
	if err != nil {
		return Backend{}, err
	}
	found, err := FindBackend(of, backend)
	if err != nil {
		return Backend{}, err
	}
	b, err = do(of.Name, found.Endpoint())
	return named(b), err
}

type backendInput struct {
	Service string `query:"service" required:"true" doc:"a name, or a form like tcp 198.51.100.10:80"`
	Backend string `query:"backend" required:"true" doc:"address:port, or the address where that is clear"`
}

func (s *Server) routeBackend() {
	route(s, huma.Operation{
		OperationID: "get-backend", Method: http.MethodGet, Path: pathBackend,
		Summary: "One backend of a service",
		Description: "The backend as in the list of services, for clients that follow one backend, such as a drain: " +
			"the cost does not grow with the number of services and backends if both are given by the names in that list.",
	}, func(ctx context.Context, in *backendInput) (Backend, error) {
		return s.onBackend(ctx, in.Service, in.Backend, func(service, backend string) (Backend, error) {
			return s.control.Backend(ctx, service, backend)
		})
	})
}

func (s *Server) routeServices() {
	route(s, huma.Operation{
		OperationID: "list-services", Method: http.MethodGet, Path: pathServices,
		Summary: "All services in the order of the configuration, each with its backends in order",
	}, func(ctx context.Context, _ *none) ([]Service, error) {
		services, err := s.control.List(ctx)
		return allNamed(services), err
	})
}

func (s *Server) routeStats() {
	route(s, huma.Operation{
		OperationID: "stats", Method: http.MethodGet, Path: pathStats,
		Summary: "A snapshot of all counters since the start of the daemon",
	}, func(ctx context.Context, _ *none) (Stats, error) { return s.control.Stats(ctx) })
}

// weightBody is the request for another weight of a backend.
type weightBody struct {
	Service string `json:"service" doc:"a name, or a form such as tcp 198.51.100.10:80"`
	Backend string `json:"backend" doc:"address:port, or the address if only one backend has it"`
	Weight  int    `json:"weight" minimum:"0" maximum:"65535" doc:"0 drains"`
}

type weightInput struct{ Body weightBody }

func (s *Server) routeWeight() {
	route(s, huma.Operation{
		OperationID: "set-weight", Method: http.MethodPost, Path: pathWeight,
		Summary: "Set a backend's weight until the file has a new one; returns the backend",
	}, func(ctx context.Context, in *weightInput) (Backend, error) {
		return s.onBackend(ctx, in.Body.Service, in.Body.Backend, func(service, backend string) (Backend, error) {
			return s.control.SetWeight(ctx, service, backend, in.Body.Weight)
		})
	})
}

type reloadInput struct {
	Force bool `query:"force" doc:"load the file even if it looks truncated or removes more than half of the active configuration"`
}

func (s *Server) routeReload() {
	route(s, huma.Operation{
		OperationID: "reload", Method: http.MethodPost, Path: pathReload,
		Summary: "Read the configuration file again and activate it; on error nothing changes",
	}, func(ctx context.Context, in *reloadInput) (ReloadResult, error) {
		result, err := s.control.Reload(ctx, ReloadOptions{Force: in.Force})
		result.Changes = orEmpty(result.Changes)
		return result, err
	})
}

// connsInput is the query of a conns request.
type connsInput struct {
	Service string `query:"service" doc:"only connections of this service; a name or another form that identifies one"`
	Client  string `query:"client" doc:"address, or address:port"`
	Backend string `query:"backend" doc:"address, or address:port"`
	State   string `query:"state" enum:"ESTABLISHED,SYN_SENT,SYN_RECV,FIN_WAIT,TIME_WAIT,CLOSE,CLOSE_WAIT,LAST_ACK,LISTEN,SYNACK,UDP,IDLE,NONE" doc:"only connections in this state"`
	Limit   int    `query:"limit" minimum:"0" doc:"at most so many; 0, the default: all, or 10000 on the network"`
}

// maxConnsNetwork limits what a client that may read over the network can request.
const maxConnsNetwork = 10_000

func (s *Server) routeConns() {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[[]Conn](), true, "")
	stream(s, huma.Operation{
		OperationID: "list-connections", Method: http.MethodGet, Path: pathConns,
		Summary: "The connections that the query selects, in no particular order",
	}, "application/json", schema, func(ctx context.Context, in *connsInput) (func(io.Writer), error) {
		query, err := s.connQuery(ctx, in)
		if err != nil {
			return nil, err
		}
		var conns []Conn
		err = s.scan(ctx, func() (err error) { conns, err = s.control.Conns(ctx, query); return })
		return func(w io.Writer) { writeConns(w, conns) }, err
	})
}

// connQuery converts the query; short forms of the service become its name.
func (s *Server) connQuery(ctx context.Context, in *connsInput) (ConnQuery, error) {
	query := ConnQuery{Service: in.Service, Client: in.Client, Backend: in.Backend, State: in.State, Limit: in.Limit}
	if !callerOf(ctx).all && (query.Limit == 0 || query.Limit > maxConnsNetwork) {
		query.Limit = maxConnsNetwork
	}
	if query.Service != "" {
		service, err := s.find(ctx, query.Service)
		if err != nil {
			return ConnQuery{}, err
		}
		query.Service = service.Name
	}
	return query, nil
}

// writeConns writes one connection after the other, because a table of millions must not be copied
// into one buffer.
func writeConns(to io.Writer, conns []Conn) {
	w := bufio.NewWriterSize(to, 64<<10)
	defer w.Flush()
	encoder := newEncoder(w)
	separator := "["
	for _, conn := range conns {
		_, _ = io.WriteString(w, separator)
		if encoder.Encode(conn) != nil {
			return // the client has disconnected
		}
		separator = ","
	}
	if len(conns) == 0 {
		_, _ = io.WriteString(w, separator)
	}
	_, _ = io.WriteString(w, "]\n")
}
