package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// The paths of the API. All answers are JSON unless the endpoint states otherwise; a failure is a
// failureBody with a status of 400 or more.
const (
	pathServices = "/v1/services"  // GET
	pathBackend  = "/v1/backend"   // GET ?service= &backend=
	pathConns    = "/v1/conns"     // GET ?service= &client= &backend= &limit=
	pathStats    = "/v1/stats"     // GET
	pathWeight   = "/v1/weight"    // POST weightBody
	pathReload   = "/v1/reload"    // POST ?force=true, no body
	pathOpenAPI  = "/openapi.json" // GET
)

// Limits on what one client can cost.
const (
	maxBody       = 64 << 10 // bytes, unless the operation has its own MaxBodyBytes
	maxHeader     = 16 << 10 // bytes
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	// writeTimeout: a million connections through a slow pipe; for a stream: one write.
	writeTimeout = 2 * time.Minute
	idleTimeout  = time.Minute
)

// Server offers a Control to HTTP clients: on the control socket, where all is allowed, and on the
// network, where Access decides.
type Server struct {
	control  Control
	logger   *slog.Logger
	mux      *http.ServeMux
	api      huma.API
	closing  chan struct{} // closed by Shutdown: streams end
	close    sync.Once
	served   sync.WaitGroup // started by OpenNetwork
	hub      hub
	socket   http.Server
	network  http.Server
	presence presence
	upgrade  Upgrader // nil: not possible
	upgraded *Upgrade // how this process began; nil: it took no other's place

	formerNetwork net.Listener // see Inherit
	listenMu      sync.Mutex
	listeners     map[string]net.Listener // that accept connections; guarded by listenMu
	left          atomic.Bool             // another process accepts connections

	socketScans, networkScans scans
}

// NewServer returns a server that logs its own errors, not the requests, to logger.
//
// To add an endpoint: write in a file of its own the types, the method of Client, and a function (s
// *Server) routeX() that calls route (one JSON answer) or stream (a continuing answer), and add it
// to the list below. huma builds the OpenAPI document from the types and checks requests against
// it: use the tags `doc`, `minimum`, `enum` and so on, and `required:"false"` for optional fields
// of a body or parameters (omitempty works too). Methods other than GET, and operations with
// Security: tokenOnly, need the token on the network. Errors that are not the daemon's fault are
// badRequest, or get a case in failed.
func NewServer(control Control, logger *slog.Logger) *Server {
	s := &Server{control: control, logger: logger, mux: http.NewServeMux(), closing: make(chan struct{}), listeners: map[string]net.Listener{},
		socketScans: newScans(socketScans), networkScans: newScans(networkScans)}
	s.hub.control, s.hub.subscribers, s.hub.count = control, map[*subscriber]struct{}{}, map[bool]int{}
	s.api = humago.New(s.mux, documentConfig())
	s.api.UseMiddleware(s.permitOperation, readBody)
	s.routeServices()
	s.routeBackend()
	s.routeConns()
	s.routeStats()
	s.routeExplain()
	s.routeTrace()
	s.routeWeight()
	s.routeReload()
	s.routeAccess()
	s.routeAlarms()
	s.routeFreeze()
	s.routeChanges()
	s.routeEvents()
	s.routeUpgrade()
	s.servePage()
	s.serveDocument()
	s.limit(&s.socket)
	s.socket.Handler, s.socket.BaseContext = s.mux, trusted
	s.limit(&s.network)
	return s
}

// limit sets limits on what one client of a server can cost.
func (s *Server) limit(server *http.Server) {
	server.ConnContext = withConnection
	server.ReadHeaderTimeout = headerTimeout
	server.ReadTimeout = readTimeout
	server.WriteTimeout = writeTimeout
	server.IdleTimeout = idleTimeout
	server.MaxHeaderBytes = maxHeader
	server.ErrorLog = slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)
}

// Handle adds a handler other than a JSON endpoint, such as /metrics, for all clients that may
// read. Call it before Serve; patterns are those of http.ServeMux.
func (s *Server) Handle(pattern string, handler http.Handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if refusal := callerOf(r.Context()).mayRead(); refusal != nil {
			refusal.write(w)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// HandleStatic adds files without data about this daemon, such as a page's scripts, for all
// clients: a browser has no token yet when it requests the page that asks for the token.
func (s *Server) HandleStatic(pattern string, handler http.Handler) { s.mux.Handle(pattern, handler) }

// Serve answers requests on the control socket until Shutdown, and then returns nil.
func (s *Server) Serve(listener net.Listener) error {
	s.serving(controlListener, listener)
	if err := s.socket.Serve(listener); !errors.Is(err, http.ErrServerClosed) && !s.left.Load() {
		return err
	}
	return nil
}

// Shutdown closes the listeners at once, which removes the socket, and waits for running requests
// until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close.Do(func() { close(s.closing) })
	err := errors.Join(s.socket.Shutdown(ctx), s.network.Shutdown(ctx), s.awaitNetwork(ctx))
	if err != nil {
		s.socket.Close()
		s.network.Close()
	}
	return err
}
