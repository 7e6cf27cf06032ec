package api_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// scanned is a daemon with scans that last until the test ends them.
type scanned struct {
	*apitest.Fake
	end                        chan struct{}
	began, running, most, done atomic.Int32 // scans so far, at present, at most at once, completed
}

func (s *scanned) scan(ctx context.Context) error {
	s.began.Add(1)
	defer s.running.Add(-1)
	for n := s.running.Add(1); ; {
		if most := s.most.Load(); n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	select {
	case <-s.end:
		s.done.Add(1)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *scanned) Conns(ctx context.Context, _ api.ConnQuery) ([]api.Conn, error) {
	return nil, s.scan(ctx)
}

func (s *scanned) Explain(ctx context.Context, _ api.Tuple) (api.Explanation, error) {
	return api.Explanation{Verdict: "asked"}, s.scan(ctx)
}

// TestManyScans checks that of many scans few run at once and a few more wait, and that the rest is
// refused with a reason while those still run.
func TestManyScans(t *testing.T) {
	const asked = 40
	tuple, err := api.ParseTuple("tcp 192.0.2.1:5000 198.51.100.10:80")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		atOnce, served int
		// One scan's failure; "": none.
		ask func(t *testing.T, daemon api.Control) func(n int) string
	}{
		{"network", 1, 9, func(t *testing.T, daemon api.Control) func(int) string {
			ask := network(t, daemon, api.Access{OpenReads: true})
			return func(n int) string {
				path := "/v1/conns"
				if n%2 == 0 {
					path = "/v1/explain?tuple=tcp+192.0.2.1:5000+198.51.100.10:80"
				}
				switch status, body := ask("GET", path, ""); status {
				case http.StatusOK:
					return ""
				case http.StatusServiceUnavailable:
					return body
				default:
					t.Errorf("%d %s", status, body)
					return body
				}
			}
		}},
		{"socket", 2, 10, func(t *testing.T, daemon api.Control) func(int) string {
			_, client := start(t, daemon)
			return func(n int) string {
				var err error
				if n%2 == 0 {
					_, err = client.Explain(t.Context(), tuple)
				} else {
					_, err = client.Conns(t.Context(), api.ConnQuery{})
				}
				if err != nil {
					return err.Error()
				}
				return ""
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			daemon := &scanned{Fake: lab(), end: make(chan struct{})}
			ask := c.ask(t, daemon)
			answers := make(chan string, asked)
			for n := range asked {
				go func() { answers <- ask(n) }()
			}
			answer := func() string {
				select {
				case a := <-answers:
					return a
				case <-time.After(20 * time.Second):
					t.Fatal("no answer comes")
					return ""
				}
			}
			for range asked - c.served {
				if a := answer(); !strings.Contains(a, "too many scans: ") || !strings.Contains(a, "8 more may wait") || !strings.Contains(a, "try again") {
					t.Errorf("refused by %q", a)
				}
			}
			close(daemon.end)
			for range c.served {
				if a := answer(); a != "" {
					t.Error("one that had a place was refused:", a)
				}
			}
			if most := int(daemon.most.Load()); most != c.atOnce || int(daemon.done.Load()) != c.served {
				t.Errorf("%d ran at once, want %d; %d in all, want %d", most, c.atOnce, daemon.done.Load(), c.served)
			}
			if a := ask(1); a != "" {
				t.Error("when all are done:", a)
			}
		})
	}
}

// TestScansOfTheNetworkAreApart checks that requests from the network do not delay requests on the
// socket, and that a client that disconnects frees its place.
func TestScansOfTheNetworkAreApart(t *testing.T) {
	daemon := &scanned{Fake: lab(), end: make(chan struct{})}
	address := freeAddress(t)
	server, socket := apitest.Serve(t, daemon)
	server.OpenNetwork(address, api.Access{OpenReads: true})
	ctx, hangUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	begin := func(ctx context.Context) {
		request, err := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/v1/conns", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
			if err == nil {
				response.Body.Close()
			}
			ended <- err
		}()
	}
	await := func(what string, happened func() bool) {
		t.Helper()
		// Event: polled.
		for deadline := time.Now().Add(20 * time.Second); !happened(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it never happened that", what)
			}
		}
	}
	begin(ctx)
	await("the network's scan runs", func() bool { return daemon.began.Load() == 1 })
	go func() {
		_, err := api.NewClient(socket).Conns(t.Context(), api.ConnQuery{})
		ended <- err
	}()
	await("the socket's scan runs beside it", func() bool { return daemon.began.Load() == 2 })
	begin(t.Context()) // waits for the first
	hangUp()
	if err := <-ended; err == nil {
		t.Error("who hung up was answered")
	}
	await("the next one has the place", func() bool { return daemon.began.Load() == 3 })
	close(daemon.end)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
