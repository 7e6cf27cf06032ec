package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// counting is a daemon with counters that grow with each reading.
type counting struct {
	*apitest.Fake
	looks atomic.Uint64
}

func (c *counting) Stats(context.Context) (api.Stats, error) {
	n := c.looks.Add(1)
	return api.Stats{Rx: 100 * n, Forwarded: 90 * n, Drops: map[string]uint64{"short": 10 * n, "no_backend": 7},
		Workers: []api.WorkerStats{{Worker: 0, CPU: 2, Rx: 100 * n, BusyS: float64(n) / 4, RunS: float64(n)}},
		Tables:  api.TableStats{ConnectionsV4: 3, Capacity: 1024}}, nil
}

func (c *counting) List(context.Context) ([]api.Service, error) {
	n := c.looks.Load()
	services, _ := c.Fake.List(context.Background())
	services[0].Packets, services[0].Bytes, services[0].Connections = 10*n, 1000*n, n
	return services, nil
}

// streams serves a daemon on a socket and returns a function that opens an event stream.
func streams(t *testing.T, control api.Control) (*api.Server, func() *eventStream) {
	t.Helper()
	server, socket := apitest.Serve(t, control)
	return server, func() *eventStream {
		t.Helper()
		response, err := overSocket(socket).Get("http://sluice/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return &eventStream{t, response, bufio.NewReader(response.Body)}
	}
}

type eventStream struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Reader
}

// next reads until an event of this name and returns its data; "" at the end of the stream.
func (s *eventStream) next(name string, into any) bool {
	s.t.Helper()
	event := ""
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return false
		}
		line = strings.TrimSuffix(line, "\n")
		if value, is := strings.CutPrefix(line, "event: "); is {
			event = value
		}
		if data, is := strings.CutPrefix(line, "data: "); is && event == name {
			if err := json.Unmarshal([]byte(data), into); err != nil {
				s.t.Fatalf("%s: %v", data, err)
			}
			return true
		}
	}
}

func TestSamplesAreDifferences(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for two samples, a second apart")
	}
	t.Parallel()
	daemon := &counting{Fake: lab()}
	_, open := streams(t, daemon)
	var sample api.Sample
	stream := open()
	if kind := stream.response.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Error(kind)
	}
	if !stream.next("stats", &sample) {
		t.Fatal("the stream ended")
	}
	if sample.Rx != 100 || sample.Forwarded != 90 || sample.Drops["short"] != 10 || len(sample.Drops) != 1 || sample.Connections != 3 {
		t.Errorf("%+v", sample)
	}
	if w := sample.Workers[0]; w.Packets != 100 || w.Busy != 0.25 || w.CPU != 2 {
		t.Errorf("%+v", w)
	}
	if len(sample.Services) != len(daemon.Services) || sample.IntervalS <= 0 {
		t.Errorf("the first sample has %d services of %d, interval %v", len(sample.Services), len(daemon.Services), sample.IntervalS)
	}
	if s := sample.Services[0]; s.Name != "web" || s.Packets != 10 || s.Bytes != 1000 || s.Connections != 1 || s.Active != 3 || s.Up != 1 || s.Backends != 3 {
		t.Errorf("%+v", s)
	}
	if !stream.next("stats", &sample) || len(sample.Services) != 1 {
		t.Errorf("quiet services are in the second sample: %+v", sample.Services)
	}
}

func TestEventsReachEveryStream(t *testing.T) {
	server, open := streams(t, lab())
	all := []*eventStream{open(), open()}
	sent := api.Event{Event: "backend_down", Level: "WARN", Message: "down\nnow", Fields: map[string]string{"service": "web"}}
	server.Publish(sent)
	for _, stream := range all {
		var got api.Event
		if !stream.next("state", &got) || got.Event != sent.Event || got.Message != sent.Message || got.Fields["service"] != "web" {
			t.Errorf("%+v", got)
		}
	}
}

func TestStreamsEndWithAReason(t *testing.T) {
	server, open := streams(t, lab())
	slow, other := open(), open()
	event := api.Event{Event: "backend_down", Message: strings.Repeat("x", 64<<10)}
	for range 1000 { // more than sockets and backlog hold, even if the reader had begun
		server.Publish(event)
	}
	var end api.StreamEnd
	// The second is not read while the first is.
	for _, stream := range []*eventStream{slow, other} {
		if !stream.next("end", &end) || !strings.Contains(end.Reason, "too slow") {
			t.Errorf("%+v", end)
		}
		if rest, err := io.ReadAll(stream.lines); string(rest) != "\n" || err != nil {
			t.Errorf("after its end: %q, %v", rest, err)
		}
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	server, open := streams(t, lab())
	stream := open()
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	var end api.StreamEnd
	if !stream.next("end", &end) || end.Reason != "the daemon stops" {
		t.Errorf("%+v", end)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	_, open := streams(t, lab())
	var all []*eventStream
	for range 64 {
		stream := open()
		if stream.response.StatusCode != 200 {
			t.Fatal(len(all), stream.response.Status)
		}
		all = append(all, stream)
	}
	if one := open(); one.response.StatusCode != http.StatusServiceUnavailable {
		t.Error("one too many:", one.response.Status)
	}
	all[0].response.Body.Close()
	deadline := time.Now().Add(10 * time.Second)
	for open().response.StatusCode != 200 {
		if time.Now().After(deadline) {
			t.Fatal("a stream that was closed leaves no room for another")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestStreamsOfTheNetworkAreApart checks that streams of the network leave room on the control
// socket.
func TestStreamsOfTheNetworkAreApart(t *testing.T) {
	server, open := streams(t, lab())
	address := freeAddress(t)
	server.OpenNetwork(address, api.Access{OpenReads: true})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := 0
	for n := 0; n <= 64; n++ {
		response, err := client.Get("http://" + address + "/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		status = response.StatusCode
	}
	if status != http.StatusServiceUnavailable {
		t.Error("one too many on the network:", status)
	}
	if stream := open(); stream.response.StatusCode != http.StatusOK {
		t.Error("on the control socket:", stream.response.Status)
	}
}
