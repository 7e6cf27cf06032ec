package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Tracer shows live packets.
type Tracer interface {
	// Trace calls emit for every packet that the query selects, in order, until Count packets,
	// Duration, the end of ctx or an error of emit. Packets that arrive faster than emit returns
	// are left out and counted in TraceEnd. The slices in an event are valid until emit returns.
	Trace(ctx context.Context, q TraceQuery, emit func(TraceEvent) error) (TraceEnd, error)
}

// TraceQuery selects packets.
type TraceQuery struct {
	Filter   string        // tcpdump expression for the packet as received or as sent; "": all
	Count    int           // at most so many; 0: limited by time only
	Duration time.Duration // at most; 0: DefaultTraceTime
	Frames   bool          // with the bytes of the frames
	Snaplen  int           // at most so many bytes of each, 0: all
	Started  func()        // called when packets are examined; may be nil
}

// Limits of a trace's duration.
const (
	DefaultTraceTime = time.Minute
	MaxTraceTime     = time.Hour
)

// maxSnaplen is the maximum length of a frame in bytes.
const maxSnaplen = 4096

// Checked returns the query with defaults in place of zeros, or an error if it is invalid.
func (q TraceQuery) Checked() (TraceQuery, error) {
	if q.Duration == 0 {
		q.Duration = DefaultTraceTime
	}
	if q.Snaplen == 0 {
		q.Snaplen = maxSnaplen
	}
	switch {
	case q.Count < 0:
		return q, badRequest{fmt.Sprintf("count %d must be at least 0", q.Count)}
	case q.Duration < 0 || q.Duration > MaxTraceTime:
		return q, badRequest{fmt.Sprintf("duration %s must be from 0 to %s", q.Duration, MaxTraceTime)}
	case q.Snaplen < 0:
		return q, badRequest{fmt.Sprintf("snaplen %d must be at least 0", q.Snaplen)}
	}
	return q, nil
}

// BadRequest returns an error that describes an invalid request.
func BadRequest(text string) error { return badRequest{text} }

// TraceEvent is how one worker handled one packet.
type TraceEvent struct {
	Time    time.Time `json:"time"`
	Worker  int       `json:"worker"`
	Port    string    `json:"port"`   // that received it
	Packet  string    `json:"packet"` // as received, in words
	Length  int       `json:"length"` // of the received frame, in bytes
	Service string    `json:"service,omitempty"`
	Backend string    `json:"backend,omitempty"`
	Steps   []Step    `json:"steps"`
	// Verdict: forward, reply, drop, hand-over; pass: passed to the kernel.
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason,omitempty"` // of a drop: a key of Stats.Drops
	Limit     string `json:"limit,omitempty"`  // of the reason limited: the key that sets the limit
	Text      string `json:"text"`             // the verdict in words
	OutPort   string `json:"out_port,omitempty"`
	OutPacket string `json:"out_packet,omitempty"` // as sent
	OutLength int    `json:"out_length,omitempty"`
	// Lost: packets so far that were selected but left out, for lack of time.
	Lost uint64 `json:"lost,omitempty"`
	In   []byte `json:"in,omitempty"`  // the received frame
	Out  []byte `json:"out,omitempty"` // the sent frame
}

// TraceEnd is how a trace ended.
type TraceEnd struct {
	Seen int    `json:"seen"`
	Lost uint64 `json:"lost"` // see TraceEvent
	Why  string `json:"why"`

	// Unresponsive are workers that do not answer: their packets are missing.
	Unresponsive []int `json:"unresponsive_workers,omitempty"`
}

// GET ?filter= &count= &duration= &frames= &snaplen=; a traceLine per line.
const pathTrace = "/v1/trace"

// traceLine is a line of the stream: exactly one field is set.
type traceLine struct {
	Started bool        `json:"started,omitempty"`
	Event   *TraceEvent `json:"event,omitempty"`
	End     *TraceEnd   `json:"end,omitempty"`
	Error   string      `json:"error,omitempty"`
}

type traceInput struct {
	Filter   string `query:"filter" doc:"tcpdump expression for the packet as received or as sent; empty: all"`
	Count    int    `query:"count" minimum:"0" doc:"end after so many packets; 0: no limit"`
	Duration string `query:"duration" doc:"end after this time, at most 1h; 1m if empty" example:"30s"`
	Frames   bool   `query:"frames" doc:"with the bytes of the frames"`
	Snaplen  int    `query:"snaplen" minimum:"0" doc:"at most so many bytes of each frame; 0: all"`
}

func (in *traceInput) query() (q TraceQuery, err error) {
	q = TraceQuery{Filter: in.Filter, Count: in.Count, Frames: in.Frames, Snaplen: in.Snaplen}
	if in.Duration != "" {
		if q.Duration, err = time.ParseDuration(in.Duration); err != nil {
			return q, badRequest{fmt.Sprintf("duration %q must be a duration such as 30s", in.Duration)}
		}
	}
	return q.Checked()
}

// routeTrace adds the stream of packets. Packet contents are confidential: on the network it needs
// the token.
func (s *Server) routeTrace() {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[traceLine](), true, "")
	stream(s, huma.Operation{
		OperationID: "trace", Method: http.MethodGet, Path: pathTrace, Security: tokenOnly,
		Summary: "Live packets and how each is handled, one JSON object per line, until an end or an error",
	}, "application/x-ndjson", schema, func(ctx context.Context, in *traceInput) (func(io.Writer), error) {
		q, err := in.query()
		if err != nil {
			return nil, err
		}
		return s.startTrace(ctx, q)
	})
}

// traceStream passes the lines of a trace from the goroutine that makes them to the one that
// answers.
type traceStream struct {
	lines chan traceLine // closed after the last one
	// written receives the result of each line. It has space for the last one's, which is not read.
	written chan error
}

// startTrace starts a trace and waits until it is running, or returns the error.
func (s *Server) startTrace(ctx context.Context, q TraceQuery) (func(io.Writer), error) {
	t := &traceStream{make(chan traceLine), make(chan error, 1)}
	ctx, cancel := context.WithCancelCause(ctx)
	started, failed := make(chan struct{}), make(chan error, 1)
	q.Started = func() { close(started) }
	go func() {
		select {
		case <-s.closing:
			cancel(errors.New("the daemon is stopping"))
		case <-ctx.Done():
		}
	}()
	go func() {
		defer cancel(nil)
		defer close(t.lines)
		end, err := s.control.Trace(ctx, q, func(e TraceEvent) error { return t.send(ctx, traceLine{Event: &e}) })
		select {
		case <-started:
		default:
			failed <- err
			return
		}
		last := traceLine{End: &end}
		if err != nil {
			last = traceLine{Error: err.Error()}
			if cause := context.Cause(ctx); cause != nil {
				last.Error = cause.Error()
			}
		}
		t.last(last)
	}()
	select {
	case <-started:
		return t.write, nil
	case err := <-failed:
		return nil, err
	}
}

// send passes a line on and waits until it is written.
func (t *traceStream) send(ctx context.Context, l traceLine) error {
	select {
	case t.lines <- l:
		return <-t.written
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lastPause is how long the end of a trace waits for the goroutine that answers.
const lastPause = time.Second

func (t *traceStream) last(l traceLine) {
	select {
	case t.lines <- l: // and its result is not read
	case <-time.After(lastPause):
	}
}

// write writes the lines until there are no more.
func (t *traceStream) write(w io.Writer) {
	encoder := newEncoder(w)
	_ = encoder.Encode(traceLine{Started: true}) // a disconnected client shows in the next write
	flush(w)
	for l := range t.lines {
		err := encoder.Encode(l)
		flush(w)
		t.written <- err
	}
}

// Trace implements Tracer.
func (c *Client) Trace(ctx context.Context, q TraceQuery, emit func(TraceEvent) error) (TraceEnd, error) {
	ctx, cancel := c.impatient(ctx)
	defer cancel() // lets the daemon see that the client has gone
	values := url.Values{"filter": {q.Filter}, "count": {strconv.Itoa(q.Count)}, "duration": {q.Duration.String()},
		"frames": {strconv.FormatBool(q.Frames)}, "snaplen": {strconv.Itoa(q.Snaplen)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sluice"+pathTrace+"?"+values.Encode(), nil)
	if err != nil {
		return TraceEnd{}, err
	}
	stream := http.Client{Transport: c.http.Transport} // no timeout: it lasts as long as the trace
	response, err := stream.Do(request)
	if err != nil {
		return TraceEnd{}, c.explain(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		return TraceEnd{}, failure(response)
	}
	for decoder := json.NewDecoder(response.Body); ; {
		var l traceLine
		if err := decoder.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return TraceEnd{}, context.Cause(ctx)
			}
			return TraceEnd{}, fmt.Errorf("socket %s: the connection to the daemon was lost: %w", c.socket, err)
		}
		switch {
		case l.Started && q.Started != nil:
			q.Started()
		case l.Event != nil:
			if err := emit(*l.Event); err != nil {
				return TraceEnd{}, err
			}
		case l.Error != "":
			return TraceEnd{}, errors.New(l.Error)
		case l.End != nil:
			return *l.End, nil
		}
	}
}
