package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// pathEvents is answered with Server-Sent Events until either side disconnects: GET. Each event has
// an `event:` line with one of the names below and a `data:` line with JSON. The first `stats`
// event is sent within two seconds. A client that needs the initial state requests the services
// after it has subscribed. A browser's EventSource cannot send a token: where reads need one, read
// the stream with fetch.
const pathEvents = "/v1/events"

// Names of the events of the stream.
const (
	streamState = "state" // data is an Event: a change of state
	streamStats = "stats" // data is a Sample: once per second
	streamEnd   = "end"   // data is a StreamEnd: the last one
)

// Event is a logged change of state: of a backend, a weight, the configuration, an alarm.
type Event struct {
	Time    time.Time         `json:"time"`
	Event   string            `json:"event" doc:"its ID; engine/eventlog/README.md lists them"`
	Level   string            `json:"level" enum:"DEBUG,INFO,WARN,ERROR"`
	Message string            `json:"message" doc:"as text"`
	Fields  map[string]string `json:"fields,omitempty" doc:"for example service, backend, why"`
}

// Sample is what happened between two readings of the counters, a second apart or more when the
// daemon is busy. Counters are given as differences: divide by interval_s for a rate.
type Sample struct {
	Time      time.Time `json:"time"`
	IntervalS float64   `json:"interval_s"`

	Rx        uint64            `json:"rx" doc:"difference, as are forwarded, replied, to_kernel and drops"`
	Forwarded uint64            `json:"forwarded"`
	Replied   uint64            `json:"replied"`
	ToKernel  uint64            `json:"to_kernel"`
	Drops     map[string]uint64 `json:"drops" doc:"only reasons that occurred"`

	Connections uint64 `json:"connections" doc:"in the table at present"`
	Capacity    uint64 `json:"capacity" doc:"of the table"`

	// Services without packets that are as in the previous sample are left out: /v1/services has
	// all.
	Services []ServiceSample `json:"services"`
	Workers  []WorkerSample  `json:"workers"`
}

// ServiceSample is one service's part of a Sample.
type ServiceSample struct {
	Name        string `json:"name"`
	Connections uint64 `json:"connections" doc:"new ones: difference, as are packets and bytes"`
	Packets     uint64 `json:"packets" doc:"from clients"`
	Bytes       uint64 `json:"bytes"`
	PacketsOut  uint64 `json:"packets_out" doc:"to clients"`
	BytesOut    uint64 `json:"bytes_out"`
	Active      uint64 `json:"active" doc:"established connections at present"`
	Inactive    uint64 `json:"inactive" doc:"all others at present"`
	Backends    int    `json:"backends" doc:"up, down and drain"`
	Up          int    `json:"up" doc:"backends, as are down and drain"`
	Down        int    `json:"down"`
	Drain       int    `json:"drain"`
	Protected   int    `json:"protected" doc:"backends that are down and take new connections: too few would remain"`
}

// WorkerSample is one worker's part of a Sample.
type WorkerSample struct {
	Worker  int     `json:"worker"`
	CPU     int     `json:"cpu"`
	Packets uint64  `json:"packets" doc:"received: difference"`
	Busy    float64 `json:"busy" doc:"portion of the interval, 0 to 1, spent on frames"`
}

// StreamEnd is why the daemon ends a stream.
type StreamEnd struct {
	Reason string `json:"reason"`
}

// Limits on event streams.
const (
	maxStreams         = 64               // on the network, and as many on the control socket
	streamBacklog      = 512              // events that a subscriber may lag behind
	streamWriteTimeout = 10 * time.Second // for one write
	sampleInterval     = time.Second
	sampleTimeout      = 5 * time.Second
	streamReconnect    = 2 * time.Second // the time that we ask a browser to wait
)

// hub sends events to subscribers. While there are any, one goroutine takes samples for all.
type hub struct {
	control Control

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	count       map[bool]int       // of subscribers, by subscriber.socket
	stop        context.CancelFunc // stops the sampler; nil: it does not run
}

// subscriber is one stream. It ends when messages is closed; why is set before.
type subscriber struct {
	messages chan message
	why      string
	socket   bool // its client is on the control socket
}

type message struct {
	name string
	data []byte // one line of JSON
}

// Publish sends an event to all streams. It never blocks; any goroutine may call it.
func (s *Server) Publish(e Event) { s.hub.send(streamState, e) }

func (h *hub) send(name string, value any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subscribers) == 0 {
		return
	}
	data, err := json.Marshal(value)
	if err != nil {
		return // our types always marshal
	}
	for sub := range h.subscribers {
		select {
		case sub.messages <- message{name, data}:
		default:
			h.drop(sub, "too slow: events were lost; subscribe again and read the state again")
		}
	}
}

// drop ends a subscription, once. The caller holds mu.
func (h *hub) drop(sub *subscriber, why string) {
	if _, there := h.subscribers[sub]; !there {
		return
	}
	delete(h.subscribers, sub)
	h.count[sub.socket]--
	sub.why = why
	close(sub.messages)
	if len(h.subscribers) == 0 {
		h.stop()
		h.stop = nil
	}
}

// errManyStreams is the error when there are too many subscribers.
var errManyStreams = fmt.Errorf("too many event streams: at most %d are served on the network, and as many on the control socket; "+
	"close one, or poll /v1/stats", maxStreams)

// subscribe starts a subscription. Those of the network have a limit of their own, so that they
// leave room for operators on the control socket.
func (h *hub) subscribe(socket bool) (*subscriber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[socket] >= maxStreams {
		return nil, errManyStreams
	}
	h.count[socket]++
	sub := &subscriber{messages: make(chan message, streamBacklog), socket: socket}
	h.subscribers[sub] = struct{}{}
	if h.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		h.stop = stop
		go h.run(ctx)
	}
	return sub, nil
}

func (h *hub) unsubscribe(sub *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(sub, "")
}

// run takes samples until ctx ends.
func (h *hub) run(ctx context.Context) {
	var sampler sampler
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, sampleTimeout)
		sample, ok := sampler.sample(asking, h.control)
		cancel()
		if ok && ctx.Err() == nil {
			h.send(streamStats, sample)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) routeEvents() {
	registry := s.api.OpenAPI().Components.Schemas
	for _, t := range []reflect.Type{reflect.TypeFor[Event](), reflect.TypeFor[Sample](), reflect.TypeFor[StreamEnd]()} {
		registry.Schema(t, true, "")
	}
	stream(s, huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: pathEvents,
		Summary: "Changes of state as they happen, and a sample of the counters each second, as Server-Sent Events",
	}, "text/event-stream", &huma.Schema{
		Type:        huma.TypeString,
		Description: "Events named state, stats and end. Their data have the schemas Event, Sample and StreamEnd.",
	}, func(ctx context.Context, _ *none) (func(io.Writer), error) {
		sub, err := s.hub.subscribe(callerOf(ctx).all)
		if err != nil {
			return nil, err
		}
		return func(w io.Writer) {
			defer s.hub.unsubscribe(sub)
			s.follow(ctx, w, sub)
		}, nil
	})
}

// follow writes messages until the client disconnects or the daemon stops.
func (s *Server) follow(ctx context.Context, w io.Writer, sub *subscriber) {
	if timed, ok := w.(timedWriter); ok {
		timed.timeout = streamWriteTimeout
		w = timed
	}
	_, err := fmt.Fprintf(w, "retry: %d\n\n", streamReconnect.Milliseconds())
	for err == nil {
		flush(w)
		select {
		case m, more := <-sub.messages:
			if !more {
				writeEnd(w, sub.why)
				return
			}
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", m.name, m.data)
		case <-s.closing:
			writeEnd(w, "the daemon stops")
			return
		case <-ctx.Done():
			return
		}
	}
}

func writeEnd(w io.Writer, reason string) {
	data, _ := json.Marshal(StreamEnd{reason}) // a string always marshals
	_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", streamEnd, data)
	flush(w)
}
