package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

const token = "0123456789abcdef-secret"

// network serves control on a loopback address until the test ends, and returns a function that
// sends requests there.
func network(t *testing.T, control api.Control, access api.Access) (ask func(method, path, body string, header ...string) (int, string)) {
	t.Helper()
	address := freeAddress(t)
	serveAt(t, address, control, access)
	return func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			request.Header.Set(name, value)
			if name == "Host" {
				request.Host = value
			}
		}
		return exchange(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, request)
	}
}

// freeAddress returns a loopback address without a listener.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener := apitest.Listen(t)
	defer listener.Close()
	return listener.Addr().String()
}

func tokenFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const weightRequest = `{"service":"web","backend":"10.0.0.11","weight":4}`

func TestWhoMayDoWhatOverTheNetwork(t *testing.T) {
	file := tokenFile(t, token+"\n", 0o640)
	bearer := "Authorization: Bearer " + token
	for _, c := range []struct {
		name        string
		access      api.Access
		header      []string
		read, write int
		says        string // the text of a refusal
	}{
		{"open, no token", api.Access{OpenReads: true}, nil, 200, 403, "set [api] token_file"},
		{"open, nothing shown", api.Access{OpenReads: true, TokenFile: file}, nil, 200, 401, "Authorization: Bearer TOKEN"},
		{"open, token", api.Access{OpenReads: true, TokenFile: file}, []string{bearer}, 200, 200, ""},
		{"open, wrong token", api.Access{OpenReads: true, TokenFile: file}, []string{bearer + "x"}, 200, 401, "not the token"},
		{"open, prefix of the token", api.Access{OpenReads: true, TokenFile: file}, []string{bearer[:len(bearer)-1]}, 200, 401, "not the token"},
		{"open, empty token", api.Access{OpenReads: true, TokenFile: file}, []string{"Authorization: Bearer "}, 200, 401, ""},
		{"open, other scheme", api.Access{OpenReads: true, TokenFile: file}, []string{"Authorization: Basic " + token}, 200, 401, ""},
		{"open, the scheme in small letters", api.Access{OpenReads: true, TokenFile: file}, []string{"Authorization: bearer " + token}, 200, 200, ""},
		{"closed, no token", api.Access{}, nil, 403, 403, "set [api] token_file"},
		{"closed, nothing shown", api.Access{TokenFile: file}, nil, 401, 401, "Authorization: Bearer TOKEN"},
		{"closed, token", api.Access{TokenFile: file}, []string{bearer}, 200, 200, ""},
		{"token file gone", api.Access{OpenReads: true, TokenFile: file + "x"}, []string{bearer}, 200, 403, "no such file"},
		{"token that others can read", api.Access{OpenReads: true, TokenFile: tokenFile(t, token, 0o644)}, []string{bearer}, 200, 403, "chmod 0600"},
		{"token that is short", api.Access{OpenReads: true, TokenFile: tokenFile(t, "short", 0o600)}, []string{"Authorization: Bearer short"}, 200, 403, "16 to 1024"},

		{"page of another origin", api.Access{OpenReads: true, TokenFile: file}, []string{bearer, "Origin: http://evil.example"}, 403, 403, "page of another origin"},
		{"page without origin", api.Access{OpenReads: true, TokenFile: file}, []string{bearer, "Origin: null"}, 403, 403, "page of another origin"},
		{"script of another site", api.Access{OpenReads: true, TokenFile: file}, []string{bearer, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403, 403, "page of another origin"},
		{"link from another site", api.Access{OpenReads: true, TokenFile: file},
			[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 200, 403, ""},
		{"own page", api.Access{OpenReads: true, TokenFile: file}, []string{bearer, "Sec-Fetch-Site: same-origin", "Origin: http://lb", "Host: lb"}, 200, 200, ""},
		{"name that resolves to us", api.Access{OpenReads: true, TokenFile: file}, []string{"Host: evil.example:9180"}, 403, 403, `set [api] host = "evil.example"`},
		{"name that is ours", api.Access{OpenReads: true, TokenFile: file, Host: "LB.example"}, []string{"Host: lb.example:9180"}, 200, 401, ""},
		{"localhost", api.Access{OpenReads: true}, []string{"Host: localhost:9180"}, 200, 403, ""},
		{"IPv6", api.Access{OpenReads: true}, []string{"Host: [::1]:9180"}, 200, 403, ""},
		{"any name, with the token", api.Access{OpenReads: true, TokenFile: file}, []string{bearer, "Host: lb7.example"}, 200, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			daemon := lab()
			ask := network(t, daemon, c.access)
			read, readBody := ask("GET", "/v1/services", "", c.header...)
			write, writeBody := ask("POST", "/v1/weight", weightRequest, c.header...)
			if read != c.read || write != c.write {
				t.Errorf("read %d, write %d; want %d, %d\n%s\n%s", read, write, c.read, c.write, readBody, writeBody)
			}
			for status, body := range map[int]string{read: readBody, write: writeBody} {
				if status >= 400 && !strings.Contains(failureText(t, body), c.says) {
					t.Errorf("%d says %s, not %s", status, body, c.says)
				}
			}
			if calls := daemon.Calls(); (calls != "") != (c.write == 200) {
				t.Error("the daemon was asked for", calls)
			}
		})
	}
}

// failureText returns the text of a failure, which every refusal has.
func failureText(t *testing.T, body string) string {
	t.Helper()
	var failure struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &failure); err != nil || failure.Error == "" {
		t.Errorf("%q is no failure: %v", body, err)
	}
	return failure.Error
}

func TestATokenCanBeReplaced(t *testing.T) {
	file := tokenFile(t, token, 0o600)
	ask := network(t, lab(), api.Access{OpenReads: true, TokenFile: file})
	next := strings.ToUpper(token)
	for i, now := range []string{token, next} {
		if err := os.WriteFile(file, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
		for j, shown := range []string{token, next} {
			want := map[bool]int{true: 200, false: 401}[i == j]
			if status, body := ask("POST", "/v1/weight", weightRequest, "Authorization: Bearer "+shown); status != want {
				t.Errorf("token %d, shown %d: %d %s", i, j, status, body)
			}
		}
	}
}

func TestBodiesOverTheNetworkAreBounded(t *testing.T) {
	ask := network(t, lab(), api.Access{OpenReads: true, TokenFile: tokenFile(t, token, 0o600)})
	bearer := "Authorization: Bearer " + token
	if status, body := ask("POST", "/v1/weight", strings.Repeat(" ", 1<<20)+weightRequest, bearer); status != 413 {
		t.Error(status, body)
	}
	if status, body := ask("GET", "/v1/stats", "{}"); status != 400 {
		t.Error("a body that a read does not take:", status, body)
	}
}

func TestConnectionsOverTheNetworkAreBounded(t *testing.T) {
	daemon := lab()
	ask := network(t, daemon, api.Access{OpenReads: true})
	for path, want := range map[string]int{"/v1/conns": 10000, "/v1/conns?limit=7": 7, "/v1/conns?limit=1000000": 10000} {
		status, body := ask("GET", path, "")
		if calls := daemon.Calls(); status != 200 || calls != fmt.Sprint("conns ||||", want) {
			t.Errorf("%s: %d %s, %s, want limit %d", path, status, body, calls, want)
		}
	}
}

// lines are the lines that a logger writes.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestNetworkWaitsForItsAddress checks that an address in use does not stop the daemon, and is
// served when it is free.
func TestNetworkWaitsForItsAddress(t *testing.T) {
	rival := apitest.Listen(t)
	log := make(lines, 8)
	server := api.NewServer(lab(), slog.New(slog.NewTextHandler(log, nil)))
	server.OpenNetwork(rival.Addr().String(), api.Access{OpenReads: true})
	if said := <-log; !strings.Contains(said, "http_failed") || !strings.Contains(said, rival.Addr().String()) {
		t.Error("nothing was logged:", said)
	}
	rival.Close()
	deadline := time.Now().Add(20 * time.Second)
	for {
		response, err := http.Get("http://" + rival.Addr().String() + "/v1/stats")
		if err == nil {
			response.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestShutdownWhileWaitingForTheAddress(t *testing.T) {
	rival := apitest.Listen(t)
	defer rival.Close()
	server := api.NewServer(lab(), slog.New(slog.DiscardHandler))
	server.OpenNetwork(rival.Addr().String(), api.Access{})
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTokenFile(t *testing.T) {
	for _, c := range []struct {
		content string
		mode    os.FileMode
		says    string // "": valid
	}{
		{token, 0o600, ""}, {token + "\n", 0o640, ""}, {token + "\r\n", 0o400, ""}, {strings.Repeat("x", 1024), 0o600, ""},
		{token, 0o644, "has mode 0644, so all users of this machine can read or write it: chmod 0600"}, {token, 0o602, "chmod"},
		{"", 0o600, "one line of 16 to 1024"}, {"fifteen-letters", 0o600, "16 to 1024"}, {strings.Repeat("x", 1025), 0o600, "16 to 1024"},
		{strings.Repeat("x", 5000), 0o600, "5000 bytes"}, {token + " " + token, 0o600, "without spaces"}, {token + "\n" + token, 0o600, "one line"}, {token + "é", 0o600, "printable"},
	} {
		got, err := api.ReadToken(tokenFile(t, c.content, c.mode))
		switch {
		case c.says == "" && (err != nil || got != strings.TrimSpace(c.content)):
			t.Errorf("%q %o: %q, %v", c.content, c.mode, got, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%.30q %o: %v does not say %s", c.content, c.mode, err, c.says)
		}
	}
	if _, err := api.ReadToken(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}

func TestDocumentIsValid(t *testing.T) {
	ask := network(t, lab(), api.Access{}) // it is open to all: it holds nothing about the daemon
	status, text := ask("GET", "/openapi.json", "")
	if status != 200 {
		t.Fatal(status, text)
	}
	document, err := libopenapi.NewDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(document)
	if errs != nil {
		t.Fatal(errs)
	}
	valid, problems := check.ValidateDocument()
	if !valid {
		for _, p := range problems {
			t.Errorf("%s: %s %v", p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
	if document.GetVersion() != "3.1.0" {
		t.Error("OpenAPI", document.GetVersion())
	}
}

// TestAnswersFitTheDocument checks that the daemon's answers match its OpenAPI document.
func TestAnswersFitTheDocument(t *testing.T) {
	daemon := lab()
	daemon.Connections = []api.Conn{{Service: "web", Protocol: "tcp"}}
	daemon.Statistics = api.Stats{Drops: map[string]uint64{"short": 2}, Workers: []api.WorkerStats{{}}, Ports: []api.PortStats{{Queues: []api.QueueStats{{}}}}}
	daemon.ReloadResult = api.ReloadResult{Changes: []string{"a"}}
	ask := network(t, daemon, api.Access{OpenReads: true, TokenFile: tokenFile(t, token, 0o600)})
	_, text := ask("GET", "/openapi.json", "")
	document, err := libopenapi.NewDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(document)
	if errs != nil {
		t.Fatal(errs)
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/services", ""}, {"GET", "/v1/conns?limit=3", ""}, {"GET", "/v1/stats", ""}, {"POST", "/v1/reload", ""},
		{"GET", "/v1/backend?service=web&backend=10.0.0.11", ""}, {"GET", "/v1/backend?service=nope&backend=x", ""},
		{"POST", "/v1/weight", weightRequest}, {"POST", "/v1/weight", `{"service":"nope","backend":"x","weight":0}`}, {"GET", "/v1/conns?service=nope", ""},
	} {
		status, body := ask(c.method, c.path, c.body, "Authorization: Bearer "+token, "Content-Type: application/json")
		request, _ := http.NewRequestWithContext(t.Context(), c.method, "http://lb"+c.path, strings.NewReader(c.body))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+token)
		response := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: request}
		if ok, problems := check.ValidateHttpRequestResponse(request, response); !ok {
			for _, p := range problems {
				t.Errorf("%s %s: %s: %s %v", c.method, c.path, p.Message, p.Reason, fmt.Sprint(p.SchemaValidationErrors))
			}
		}
	}
}

// TestIdleAndSlowClientsGiveWay checks that clients that send nothing, a part of a request, or do
// not read their answer, do not keep others out, even from the same address.
func TestIdleAndSlowClientsGiveWay(t *testing.T) {
	const get = "GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	// More than the buffers of a connection hold.
	big := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := make([]byte, 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	for name, c := range map[string]struct {
		clients int
		sends   string
		reads   int // bytes
	}{
		"idle":              {clients: 300},
		"idle after answer": {300, strings.Replace(get, "big", "v1/alarms", 1) + "\r\n", 15},
		"slow to ask":       {1000, get, 0},
		"slow to read":      {300, get + "\r\n", 15},
	} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			server := api.NewServer(lab(), slog.New(slog.DiscardHandler))
			server.Handle("GET /big", big)
			server.OpenNetwork(address, api.Access{OpenReads: true})
			t.Cleanup(func() { // after the connections are closed
				if err := server.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			})
			for range c.clients {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				// Both fail if it has given way already.
				_, _ = io.WriteString(conn, c.sends)
				_, _ = io.ReadFull(conn, make([]byte, c.reads))
			}
			request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/v1/alarms", nil)
			if err != nil {
				t.Fatal(err)
			}
			// Without a limit that gives way, it waits for a timeout of 5 to 120 seconds.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
			if status, body := exchange(t, client, request); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

// TestBusyConnectionsStay checks that a request that is being worked on does not give way.
func TestBusyConnectionsStay(t *testing.T) {
	daemon := &scanned{Fake: lab(), end: make(chan struct{})}
	address := freeAddress(t)
	serveAt(t, address, daemon, api.Access{OpenReads: true})
	answered := make(chan error, 1)
	go func() {
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + address + "/v1/conns")
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	for deadline := time.Now().Add(20 * time.Second); daemon.began.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request does not arrive")
		}
	}
	for range 600 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	close(daemon.end)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
