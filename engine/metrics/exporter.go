package metrics

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/engine/api"
)

// Options is what an Exporter shows besides a Control's answers.
type Options struct {
	Backends bool             // a series for each backend, not only sums per service
	Log      func() LogCounts // nil: no metrics of the log
}

// LogCounts is what the log has counted since the start.
type LogCounts struct {
	Events     map[string]uint64 // by ID, suppressed ones included
	Suppressed uint64            // lines, by the log's limit
	Dropped    uint64            // lines that could not be written
}

// Limits on what scrapes can cost.
const (
	snapshotAge   = time.Second
	askTimeout    = 8 * time.Second // below Prometheus' scrape_timeout of 10 s
	scrapesAtOnce = 4
)

// Exporter is the prometheus.Collector of a daemon. Any goroutine may use it.
type Exporter struct {
	control api.Control
	options Options

	mu   sync.Mutex // held while the daemon is asked, so that only one goroutine asks
	last *snapshot  // nil: none yet
}

// snapshot is the data of one scrape. It is never changed, except that its before is cleared.
type snapshot struct {
	at       time.Time
	services []api.Service
	stats    api.Stats
	status   api.Status
	log      LogCounts
	before   *snapshot // its own before is nil; nil: this is the first
}

// New returns an Exporter of control.
func New(control api.Control, o Options) *Exporter { return &Exporter{control: control, options: o} }

// Describe implements prometheus.Collector.
func (e *Exporter) Describe(out chan<- *prometheus.Desc) {
	for _, f := range Families {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector. When the daemon does not answer, the whole scrape fails:
// partial numbers would look like a fault of what they count.
func (e *Exporter) Collect(out chan<- prometheus.Metric) {
	s, err := e.snapshot()
	if err != nil {
		out <- prometheus.NewInvalidMetric(buildInfo.desc, err)
		return
	}
	s.put(out, e.options.Backends)
}

// snapshot asks the daemon, or returns the previous answer if that is less than a second old.
func (e *Exporter) snapshot() (*snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last != nil && time.Since(e.last.at) < snapshotAge {
		return e.last, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	s := &snapshot{}
	var err error
	if s.services, err = e.control.List(ctx); api.Answered(err) != nil {
		return nil, err
	}
	if s.stats, err = e.control.Stats(ctx); api.Answered(err) != nil {
		return nil, err
	}
	if s.status, err = e.control.Status(ctx); err != nil {
		return nil, err
	}
	if e.options.Log != nil {
		s.log = e.options.Log()
	}
	s.at = time.Now()
	if e.last != nil {
		s.before = &snapshot{stats: e.last.stats}
	}
	e.last = s
	return s, nil
}

// Handler serves the exporter's metrics, and those of the Go runtime and the process.
func (e *Exporter) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(e, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return buffered(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), scrapesAtOnce)
}

// buffered lets next write into memory, for so many requests at once, and sends the answer
// afterwards: a client that reads slowly, or nothing, does not delay the scrapes of others.
func buffered(next http.Handler, atOnce int) http.Handler {
	places := make(chan struct{}, atOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		answer := answer{header: w.Header(), status: http.StatusOK}
		func() {
			defer func() { <-places }()
			next.ServeHTTP(&answer, r)
		}()
		w.WriteHeader(answer.status)
		_, _ = w.Write(answer.body.Bytes()) // fails only when the client has disconnected
	})
}

// answer is an http.ResponseWriter in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(data []byte) (int, error) { return a.body.Write(data) }
