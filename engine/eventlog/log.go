package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	slogjournal "github.com/systemd/slog-journal"

	"sluice/engine/api"
)

// journalSocket is where systemd-journald receives native records, see systemd.journal-fields(7).
const journalSocket = "/run/systemd/journal/socket"

// Formats of a log.
const (
	Auto    = "auto"    // Journal if stderr is the journal, else Text
	Text    = "text"    // key=value, one line per record
	JSON    = "json"    // one object per line
	Journal = "journal" // native fields: journalctl EVENT=backend_down SERVICE=web
)

// Formats lists the formats.
var Formats = []string{Auto, Text, JSON, Journal}

// Log is a logger with counters. It never blocks: see queue. Any goroutine may use it.
type Log struct {
	*slog.Logger
	limit *limiter
	queue queue

	mu     sync.Mutex
	counts map[string]uint64 // by event
	follow func(api.Event)   // nil: no follower
}

// New returns a log that writes to w, or to the journal. The error says why the format cannot be
// used.
func New(w io.Writer, level slog.Leveler, format string) (*Log, error) {
	_, missing := os.Stat(journalSocket) // the library would lose records without an error
	if format == Auto {
		format = Text
		if onJournal(w) && missing == nil {
			format = Journal
		}
	}
	var out slog.Handler
	switch format {
	case Text:
		out = slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	case JSON:
		out = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	case Journal:
		journal, err := slogjournal.NewHandler(&slogjournal.Options{Level: level, ReplaceAttr: journalField, ReplaceGroup: fieldName})
		if err = errors.Join(err, missing); err != nil {
			return nil, fmt.Errorf("the journal cannot be written: %w", err)
		}
		out = &journalOrText{Handler: journal, text: slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})}
	default:
		return nil, fmt.Errorf("log format %q must be one of %s", format, strings.Join(Formats, ", "))
	}
	l := &Log{limit: newLimiter(), counts: make(map[string]uint64)}
	l.queue.notice = func(n uint64) error { return l.reportDropped(out, n) }
	l.Logger = slog.New(&handler{Handler: out, log: l})
	return l, nil
}

// journalOrText writes to the journal, and as text where the journal fails, so that no record is
// lost.
type journalOrText struct {
	slog.Handler // the journal
	text         slog.Handler
}

func (e *journalOrText) Handle(ctx context.Context, r slog.Record) error {
	if e.Handler.Handle(ctx, r) == nil {
		return nil
	}
	return e.text.Handle(ctx, r)
}

func (e *journalOrText) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalOrText{Handler: e.Handler.WithAttrs(attrs), text: e.text.WithAttrs(attrs)}
}

func (e *journalOrText) WithGroup(name string) slog.Handler {
	return &journalOrText{Handler: e.Handler.WithGroup(name), text: e.text.WithGroup(name)}
}

// onJournal reports whether w is connected to the journal: systemd identifies the file that it
// passed as stderr, see systemd.exec(5), $JOURNAL_STREAM.
func onJournal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// journalField converts an attribute to a name and value that the journal accepts.
func journalField(_ []string, a slog.Attr) slog.Attr {
	a.Key = fieldName(a.Key)
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// fieldName converts "confirm until" to CONFIRM_UNTIL.
func fieldName(key string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, key)
}

// Follow sets f as the follower: it is called for every event from now on. f must neither block nor
// log.
func (l *Log) Follow(f func(api.Event)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.follow = f
}

// Counts is what a Log has counted since the start.
type Counts struct {
	Events     map[string]uint64 // by ID, zeros included
	Suppressed uint64            // lines, by the limit
	Dropped    uint64            // lines that could not be written, or found no space
}

// Counts returns the counters.
func (l *Log) Counts() Counts {
	l.mu.Lock()
	events := maps.Clone(l.counts)
	l.mu.Unlock()
	for _, e := range Events {
		if _, happened := events[e.ID]; !happened {
			events[e.ID] = 0
		}
	}
	return Counts{events, l.limit.total(), l.queue.total()}
}

// count counts an event.
func (l *Log) count(id string) {
	if id == "" {
		return
	}
	l.mu.Lock()
	l.counts[id]++
	l.mu.Unlock()
}

// publish counts an event and calls the follower.
func (l *Log) publish(e api.Event) {
	l.count(e.Event)
	l.mu.Lock()
	follow := l.follow
	l.mu.Unlock()
	if follow != nil {
		follow(e)
	}
}

// handler limits, counts and forwards events before it passes a record on.
type handler struct {
	slog.Handler
	log   *Log
	attrs []slog.Attr // of the logger
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.log, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.log, h.attrs}
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := eventOf(r, h.attrs)
	reason, subject := e.Event, e.Fields["service"]+" "+e.Fields["backend"]+" "+e.Fields["port"]
	if reason == "" {
		reason, subject = r.Message, ""
	}
	if !requested(e.Event) && !h.log.limit.allows(reason, subject, r.Time, func(n uint64) { h.leftOut(reason, subject, n) }) {
		h.log.count(e.Event)
		return nil
	}
	h.pass(r, e)
	return nil
}

// pass has the record written and calls the follower.
func (h *handler) pass(r slog.Record, e api.Event) {
	if e.Event != "" {
		h.log.publish(e)
	}
	h.log.queue.put(h.Handler, r)
}

// leftOut logs how many lines were suppressed.
func (h *handler) leftOut(reason, subject string, n uint64) {
	if !h.Enabled(context.Background(), slog.LevelWarn) {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, fmt.Sprintf("%d more suppressed", n), 0)
	r.Add("event", Suppressed, "of", strings.TrimSpace(reason+" "+subject), "count", n)
	h.pass(r, eventOf(r, h.attrs))
}

// eventOf returns a record as the follower sees it. attrs are those of the logger.
func eventOf(r slog.Record, attrs []slog.Attr) api.Event {
	e := api.Event{Time: r.Time, Level: r.Level.String(), Message: r.Message, Fields: make(map[string]string, r.NumAttrs()+len(attrs))}
	add := func(a slog.Attr) bool {
		if a.Key == "event" {
			e.Event = a.Value.String()
		} else {
			e.Fields[a.Key] = a.Value.Resolve().String()
		}
		return true
	}
	for _, a := range attrs {
		add(a)
	}
	r.Attrs(add)
	return e
}
