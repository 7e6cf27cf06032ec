package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// daemonHTTP is the default address of the daemon on the balancer's loopback.
const daemonHTTP = "http://127.0.0.1:9180"

// TestNumbers: metrics, events and changes over HTTP, under real traffic.
func TestNumbers(t *testing.T) {
	b := bed(t)
	ctx := ctxOf(t)
	const token = "0123456789abcdef-e2e"
	cfg := config(t, nat4)
	cfg.API.TokenFile = filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(cfg.API.TokenFile, []byte(token+"\n"), 0o600))
	d := start(t, b, cfg)
	client := b.Balancer.HTTPClient()
	service := cfg.Services[0].Name
	defer client.CloseIdleConnections()

	events := follow(t, ctx, client)
	events("stats", new(api.Sample)) // traffic from now on is counted
	wantSpread(t, b.Ask(ctx, nat4.URL(), 30), [3]int{10, 10, 10})
	var opened, rx uint64
	for opened < 30 {
		var sample api.Sample
		events("stats", &sample)
		rx += sample.Rx
		for _, s := range sample.Services {
			if s.Name == service {
				opened += s.Connections
			}
		}
	}
	if opened != 30 || rx < 30*8 {
		t.Errorf("the stream tells of %d connections and %d packets", opened, rx)
	}

	order := fmt.Sprintf(`{"service": %q, "backend": %q, "weight": 0}`, service, cfg.Services[0].Backends[0].Address)
	if status, body := ask(t, ctx, client, "POST", "/v1/weight", order, ""); status != http.StatusUnauthorized {
		t.Error("an order without the token:", status, body)
	}
	if status, body := ask(t, ctx, client, "POST", "/v1/weight", order, token); status != http.StatusOK {
		t.Error("an order with the token:", status, body)
	}
	for event := (api.Event{}); event.Event != "weight_set"; {
		events("state", &event)
	}
	_, err := d.Process.WaitLine(ctx, "event=weight_set")
	must(t, err)
	wantSpread(t, b.Ask(ctx, nat4.URL(), 30), [3]int{0, 15, 15})

	stats, err := d.Quiet(ctx)
	must(t, err)
	metrics := scraped(t, ctx, client)
	for series, want := range map[string]float64{
		"sluice_packets_received_total":                                                        float64(stats.Rx),
		fmt.Sprintf("sluice_service_connections_total{service=%q}", service):                   60,
		fmt.Sprintf("sluice_service_backends{service=%q,state=\"drain\"}", service):            1,
		fmt.Sprintf("sluice_service_backends{service=%q,state=\"up\"}", service):               2,
		`sluice_events_total{event="weight_set"}`:                                              1,
		"sluice_config_last_reload_successful":                                                 1,
		fmt.Sprintf("sluice_port_info{io=%q,port=%q}", stats.Ports[0].IO, stats.Ports[0].Name): 1,
	} {
		if got, there := metrics[series]; !there || got != want {
			t.Errorf("%s is %v, not %v", series, got, want)
		}
	}
	sum := metrics["sluice_packets_forwarded_total"] + metrics["sluice_packets_replied_total"] + metrics["sluice_packets_to_kernel_total"]
	for series, n := range metrics {
		if strings.HasPrefix(series, "sluice_drops_total{") {
			sum += n
		}
	}
	if got := metrics["sluice_packets_received_total"]; got != sum {
		t.Errorf("received %v, but forwarded, replied, to the kernel and dropped %v", got, sum)
	}
}

// ask sends one request to the daemon from its own machine.
func ask(t *testing.T, ctx context.Context, client *http.Client, method, path, body, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, daemonHTTP+path, strings.NewReader(body))
	must(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(data)
}

// scraped returns the values of /metrics by series.
func scraped(t *testing.T, ctx context.Context, client *http.Client) map[string]float64 {
	t.Helper()
	status, text := ask(t, ctx, client, "GET", "/metrics", "", "")
	if status != http.StatusOK {
		t.Fatal(status, text)
	}
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		must(t, err)
		all[line[:at]] = value
	}
	return all
}

// follow opens the event stream and returns a function that waits for the next event of a name.
func follow(t *testing.T, ctx context.Context, client *http.Client) func(name string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", daemonHTTP+"/v1/events", nil)
	must(t, err)
	response, err := client.Do(request)
	must(t, err)
	t.Cleanup(func() { response.Body.Close() })
	events := testbed.NewEvents(response.Body)
	return func(name string, into any) {
		t.Helper()
		for event, data, ok := events.Next(); ok; event, data, ok = events.Next() {
			if event == name {
				must(t, json.Unmarshal([]byte(data), into))
				return
			}
		}
		t.Fatalf("the stream ended before an event %s: %v", name, events.Err())
	}
}
