package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
	"sluice/tools/leaks"
)

func TestMain(m *testing.M) {
	api.SetNetworkRetry(100 * time.Millisecond)
	// net/http waits half a second for the client to read the answer when the request's body was
	// too large.
	leaks.Main(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// lab is a daemon without an engine that has services of several kinds.
func lab() *apitest.Fake {
	return &apitest.Fake{
		Frozen: []string{"web"},
		Services: []api.Service{
			{Name: "web", Address: "198.51.100.10", Port: api.SinglePort(80), Protocol: "tcp", Mode: "nat", Scheduler: "wlc",
				Backends: []api.Backend{
					{Address: "10.0.0.11", Port: api.SinglePort(8080), Weight: 1, Mode: "nat", State: api.StateUp, Active: 3},
					{Address: "10.0.0.12", Port: api.SinglePort(8080), Weight: 1, Mode: "tun", State: api.StateDown},
					{Address: "10.0.0.12", Port: api.SinglePort(8081), Mode: "nat", State: api.StateDrain},
				}},
			{Name: "dns", Address: "198.51.100.10", Port: api.SinglePort(53), Protocol: "udp", Mode: "dr",
				Backends: []api.Backend{{Address: "10.0.0.13", Port: api.SinglePort(53)}}},
			{Name: "dns-tcp", Address: "198.51.100.10", Port: api.SinglePort(53), Protocol: "tcp", Mode: "dr", Backends: []api.Backend{}},
			{Name: "six", Address: "2001:db8::10", Port: api.Port{First: 8000, Last: 8099}, Protocol: "tcp", Mode: "tun",
				Backends: []api.Backend{{Address: "2001:db8::11"}}},
			{Name: "all", Address: "198.51.100.11", Port: api.Port{First: 0, Last: 65535}, Protocol: "tcp", Mode: "dr", Backends: []api.Backend{}},
		},
	}
}

// start serves control on a socket until the test ends and returns a client.
func start(t *testing.T, control api.Control) (socket string, client *api.Client) {
	t.Helper()
	_, socket = apitest.Serve(t, control)
	return socket, api.NewClient(socket)
}

// withoutNames compares services and backends without what the server adds.
var withoutNames = cmp.Options{
	cmpopts.IgnoreFields(api.Backend{}, "StateName"),
	cmpopts.IgnoreFields(api.Service{}, "States", "StateName", "StateNote"),
}

func TestListArrivesAsSent(t *testing.T) {
	daemon := lab()
	_, client := start(t, daemon)
	got, err := client.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(daemon.Services, got, withoutNames); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsAnEmptyArray(t *testing.T) {
	socket, client := start(t, &apitest.Fake{})
	for _, path := range []string{"/v1/services", "/v1/conns"} {
		if _, body := raw(t, socket, "GET", path, ""); strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: %q", path, body)
		}
	}
	if conns, err := client.Conns(t.Context(), api.ConnQuery{}); err != nil || len(conns) != 0 {
		t.Error(conns, err)
	}
}

func TestContractNamesOfList(t *testing.T) {
	socket, _ := start(t, lab())
	_, body := raw(t, socket, "GET", "/v1/services", "")
	var services []map[string]any
	if err := json.Unmarshal([]byte(body), &services); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"name", "address", "port", "protocol", "mode", "scheduler", "backends"} {
		if _, ok := services[0][name]; !ok {
			t.Errorf("a service has no %q", name)
		}
	}
	backend := services[0]["backends"].([]any)[0].(map[string]any)
	for _, name := range []string{"address", "port", "weight", "mode", "state", "active", "inactive", "packets", "bytes", "connections"} {
		if _, ok := backend[name]; !ok {
			t.Errorf("a backend has no %q", name)
		}
	}
	ports := []any{services[0]["port"], services[3]["port"], services[4]["port"], backend["port"]}
	if diff := cmp.Diff([]any{80.0, "8000-8099", "any", 8080.0}, ports); diff != "" {
		t.Error("ports:", diff)
	}
}

func TestConnsAndTheirQuery(t *testing.T) {
	daemon := lab()
	for i := range 1000 {
		daemon.Connections = append(daemon.Connections, api.Conn{Service: "web", Protocol: "tcp", State: "ESTABLISHED", ExpiresS: float64(i)})
	}
	_, client := start(t, daemon)
	got, err := client.Conns(t.Context(), api.ConnQuery{Service: "tcp 198.51.100.10:80", Client: "10.1.1.1", Backend: "10.0.0.11:8080", State: "SYN_RECV", Limit: 7})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(daemon.Connections, got); diff != "" {
		t.Error(diff)
	}
	if calls := daemon.Calls(); calls != "conns web|10.1.1.1|10.0.0.11:8080|SYN_RECV|7" {
		t.Error("the query that arrived:", calls)
	}
}

func TestStatsArriveAsSent(t *testing.T) {
	daemon := lab()
	daemon.Statistics = api.Stats{Version: "1", Rx: 10, Forwarded: 6, Replied: 1, Drops: map[string]uint64{"short": 2, "no_backend": 1},
		Workers: []api.WorkerStats{{CPU: 3, BusyShare: 0.5}}, Ports: []api.PortStats{{Name: "eth0", IO: api.IOCopy, Queues: []api.QueueStats{{Rx: 10}}}},
		Frames: api.FrameStats{Total: 4096, Free: 4096}, Tables: api.TableStats{Capacity: 1 << 20}}
	_, client := start(t, daemon)
	got, err := client.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(daemon.Statistics, got); diff != "" {
		t.Error(diff)
	}
	if got.Rx != got.Forwarded+got.Replied+got.Dropped() {
		t.Error("Dropped is not the sum of the drops")
	}
}

func TestWeightReachesTheBackendMeant(t *testing.T) {
	daemon := lab()
	_, client := start(t, daemon)
	for _, c := range []struct{ service, backend, want string }{
		{"web", "10.0.0.11:8080", "web 10.0.0.11:8080 4"},
		{"web", "10.0.0.11", "web 10.0.0.11:8080 4"},
		{"tcp 198.51.100.10:80", "10.0.0.12:8081", "web 10.0.0.12:8081 4"},
		{"TCP/198.51.100.10:80", "10.0.0.11", "web 10.0.0.11:8080 4"},
		{"198.51.100.10:80", "10.0.0.11", "web 10.0.0.11:8080 4"},
		{"udp 198.51.100.10:53", "10.0.0.13", "dns 10.0.0.13:53 4"},
		{"tcp [2001:DB8:0::10]:8000-8099", "2001:db8:0:0::11", "six [2001:db8::11]:0 4"},
		{"2001:db8::10", "[2001:db8::11]:0", "six [2001:db8::11]:0 4"},
	} {
		if _, err := client.SetWeight(t.Context(), c.service, c.backend, 4); err != nil {
			t.Errorf("%s, %s: %v", c.service, c.backend, err)
		} else if calls := daemon.Calls(); calls != "weight "+c.want {
			t.Errorf("%s, %s: %s, want %s", c.service, c.backend, calls, c.want)
		}
	}
}

func TestWeightErrorsNameWhatIsLegal(t *testing.T) {
	daemon := lab()
	_, client := start(t, daemon)
	for _, c := range []struct{ service, backend, want string }{
		{"wbe", "10.0.0.11", `no service "wbe": must be one of web, dns, dns-tcp, six, all`},
		{"udp 198.51.100.10:80", "10.0.0.11", `no service "udp 198.51.100.10:80": must be one of web, dns, dns-tcp, six, all`},
		{"web", "10.0.0.99", `service "web" has no backend "10.0.0.99": must be one of 10.0.0.11:8080, 10.0.0.12:8080, 10.0.0.12:8081`},
		{"web", "10.0.0.12", `"10.0.0.12" is ambiguous: must be one of 10.0.0.12:8080, 10.0.0.12:8081`},
		{"198.51.100.10:53", "10.0.0.13", `"198.51.100.10:53" is ambiguous: must be one of dns, dns-tcp`},
		{"", "10.0.0.11", `no service "": must be one of web, dns, dns-tcp, six, all`},
	} {
		_, err := client.SetWeight(t.Context(), c.service, c.backend, 1)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q, %q:\n got %v\nwant %s", c.service, c.backend, err, c.want)
		}
	}
	var none *api.NoSuchBackend
	if _, err := client.SetWeight(t.Context(), "web", "x", 1); !errors.As(err, &none) || len(none.Legal) != 3 {
		t.Errorf("the error lost its type on the way: %#v", err)
	}
	if _, err := client.SetWeight(t.Context(), "web", "10.0.0.11", -1); err == nil || !strings.Contains(err.Error(), "body.weight: expected number >= 0") {
		t.Error("weight -1:", err)
	}
	if calls := daemon.Calls(); calls != "" {
		t.Error("an error changed something:", calls)
	}
}

func TestReloadErrorsKeepTheirLines(t *testing.T) {
	daemon := lab()
	_, client := start(t, daemon)
	daemon.ReloadResult = api.ReloadResult{Changes: []string{"service web: backend 10.0.0.14:8080 added"}}
	if got, err := client.Reload(t.Context(), api.ReloadOptions{}); err != nil || cmp.Diff(daemon.ReloadResult, got) != "" {
		t.Error(got, err)
	}
	daemon.Err = errors.Join(errors.New("a.toml:3: port 70000"), errors.New("a.toml:9: weight -1"))
	if _, err := client.Reload(t.Context(), api.ReloadOptions{}); err == nil || err.Error() != "a.toml:3: port 70000\na.toml:9: weight -1" {
		t.Error(err)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	daemon := lab()
	socket, _ := start(t, daemon)
	long := `{"service":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/v1/weight", `{"service":"web","backend":"10.0.0.11","weight":1,"wieght":2}`, 400, `body.wieght: unexpected property`},
		{"POST", "/v1/weight", `{"service":"web","backend":"10.0.0.11"}`, 400, "expected required property weight"},
		{"POST", "/v1/weight", `{"service":"web","backend":"10.0.0.11","weight":65536}`, 400, "body.weight: expected number <= 65535"},
		{"POST", "/v1/weight", `{"service":"web","backend":"10.0.0.11","weight":1}{}`, 400, "after top-level value"},
		{"POST", "/v1/weight", ``, 400, "body"},
		{"POST", "/v1/weight", long, 413, "too large"},
		{"POST", "/v1/reload", `{}`, 400, "no body"},
		{"GET", "/v1/weight", ``, 405, ""},
		{"GET", "/v1/conns?limit=-1", ``, 400, "limit"},
		{"GET", "/v1/conns?state=open", ``, 400, "state"},
		{"GET", "/v1/conns?limt=1", ``, 400, "unknown query parameter"},
		{"GET", "/v1/conns?service=nope", ``, 404, "no service"},
		{"GET", "/v1/services?x=1", ``, 400, "unknown query parameter"},
		{"GET", "/nothing", ``, 404, ""},
	} {
		status, body := raw(t, socket, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %.70s: %d %.200s", c.method, c.path, c.body, status, body)
		}
	}
	if calls := daemon.Calls(); calls != "" {
		t.Error("a bad request changed something:", calls)
	}
}

func TestNoDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	want := "no sluice answers on " + socket + ": start it, or set --socket"
	if _, err := api.NewClient(socket).List(t.Context()); err == nil || err.Error() != want {
		t.Errorf("no socket:\n got %v\nwant %s", err, want)
	}
	abandon(t, socket)
	if _, err := api.NewClient(socket).List(t.Context()); err == nil || err.Error() != want {
		t.Errorf("socket of a dead daemon:\n got %v\nwant %s", err, want)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "deep", "er", "s.sock")
	listener, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode of its directory: %v, %v", info.Mode(), err)
	}
	if _, err := api.Listen(socket); err == nil || !strings.Contains(err.Error(), "another sluice answers on "+socket) {
		t.Error("a second daemon on the same socket:", err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is still there after Close")
	}

	abandon(t, socket)
	listener, err = api.Listen(socket)
	if err != nil {
		t.Fatal("the socket of a dead process is in the way:", err)
	}
	listener.Close()

	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(file); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Error("a file in the way:", err)
	}
	if data, _ := os.ReadFile(file); string(data) != "data" {
		t.Error("the file in the way was harmed")
	}
	if _, err := api.Listen(filepath.Join(dir, strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Error("a path that is too long:", err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	daemon := &slow{Fake: lab(), entered: make(chan struct{}), leave: make(chan struct{})}
	socket := filepath.Join(t.TempDir(), "s.sock")
	listener, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewServer(daemon, slog.New(slog.DiscardHandler))
	served, asked, shut := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	go func() {
		_, err := api.NewClient(socket).Reload(context.Background(), api.ReloadOptions{})
		asked <- err
	}()
	<-daemon.entered
	go func() { shut <- server.Shutdown(context.Background()) }()
	if err := <-served; err != nil {
		t.Error("serve:", err)
	}
	close(daemon.leave)
	for what, errs := range map[string]chan error{"the request that ran": asked, "shutdown": shut} {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(what, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal(what, "never ended")
		}
	}
}

// slow is a daemon with a reload that takes as long as the test needs.
type slow struct {
	*apitest.Fake
	entered, leave chan struct{}
}

func (s *slow) Reload(context.Context, api.ReloadOptions) (api.ReloadResult, error) {
	close(s.entered)
	<-s.leave
	return api.ReloadResult{}, nil
}

// abandon leaves a socket behind as a killed daemon does.
func abandon(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
}

// raw sends a request that the client would never send.
func raw(t *testing.T, socket, method, path, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return exchange(t, overSocket(socket), request)
}

// overSocket returns an HTTP client for the socket, with a new connection for each request.
func overSocket(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// exchange sends a request and reads the whole answer.
func exchange(t *testing.T, client *http.Client, request *http.Request) (status int, answer string) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(request.Method, request.URL.Path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// goneFake is a fake that waits in SetWeight until its client has gone.
type goneFake struct {
	*apitest.Fake
	asked chan struct{}
	ended chan error
}

func (g goneFake) SetWeight(ctx context.Context, _, _ string, _ int) (api.Backend, error) {
	close(g.asked)
	<-ctx.Done()
	g.ended <- ctx.Err()
	return api.Backend{}, ctx.Err()
}

// TestClientGone: the context of a change ends when its client has gone.
func TestClientGone(t *testing.T) {
	g := goneFake{lab(), make(chan struct{}), make(chan error, 1)}
	_, client := start(t, g)
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-g.asked; leave() }()
	if _, err := client.SetWeight(ctx, "web", "10.0.0.11:8080", 1); err == nil {
		t.Error("an answer came")
	}
	select {
	case <-g.ended:
	case <-time.After(20 * time.Second):
		t.Error("the change does not know that its client has gone")
	}
}

// silentFake is a fake of which workers do not answer.
type silentFake struct{ *apitest.Fake }

func (s silentFake) List(ctx context.Context) ([]api.Service, error) {
	services, _ := s.Fake.List(ctx)
	return services, &api.Unresponsive{Workers: []int{1, 3}}
}

// TestUnresponsive: an answer without some workers reaches the client with their numbers, and names
// in any form are found in it.
func TestUnresponsive(t *testing.T) {
	_, client := start(t, silentFake{lab()})
	services, err := client.List(t.Context())
	var u *api.Unresponsive
	if !errors.As(err, &u) || u.Error() != "workers 1, 3 have not answered: what is shown of them may be old or missing" || len(services) == 0 {
		t.Errorf("%d services, %v", len(services), err)
	}
	if b, err := client.SetWeight(t.Context(), "tcp 198.51.100.10:80", "10.0.0.11", 4); err != nil || b.Weight != 4 {
		t.Error(b, err)
	}
}
