package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/tools/leaks"
	"sluice/tools/netlab"
	"sluice/tools/netlab/backend"
)

const waitLimit = 20 * time.Second

func TestMain(m *testing.M) {
	backend.RunIfChild()
	leaks.Main(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}

var noKeepAlive = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// local starts a backend on a free port of both loopback addresses and needs no root.
func local(t *testing.T) (b *backend.Backend, http4, http6, echo, udp4, udp6 string) {
	t.Helper()
	b, err := backend.Start(backend.Config{Name: "b1", HTTP: []string{"127.0.0.1:0", "[::1]:0"},
		Echo: []string{"127.0.0.1:0"}, UDP: []string{"127.0.0.1:0", "[::1]:0"}})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	a := b.Addrs()
	return b, a[0].String(), a[1].String(), a[2].String(), a[3].String(), a[4].String()
}

// TestHTTP checks that every answer has the backend, the client and the server address, and that
// blobs and uploads match their hash.
func TestHTTP(t *testing.T) {
	_, http4, http6, _, _, _ := local(t)
	ctx := ctxOf(t)
	for _, addr := range []string{http4, http6} {
		base := "http://" + addr
		a, err := backend.Get(ctx, noKeepAlive, base)
		must(t, err)
		if a.Name != "b1" || a.Server.String() != addr || !a.Client.Addr().IsLoopback() || a.Client.Port() == 0 {
			t.Errorf("%s answers %s", addr, a)
		}
		for _, size := range []int64{0, 1, 1000, 3 << 20} {
			name, err := backend.Download(ctx, noKeepAlive, base, size, 42)
			if err != nil || name != "b1" {
				t.Errorf("download of %d bytes from %q: %v", size, name, err)
			}
			a, err := backend.Upload(ctx, noKeepAlive, base, size, 43)
			if err != nil || a.Name != "b1" || a.Bytes != size {
				t.Errorf("upload of %d bytes: %s, %v", size, a, err)
			}
		}
	}
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/nothing": 404, "/blob": 400, "/blob?bytes=-1&seed=1": 400,
		"/blob?bytes=1&seed=x": 400, "/blob?bytes=99999999999999&seed=1": 400, "/upload": 405} {
		res, err := noKeepAlive.Get("http://" + http4 + path)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("GET %s: %s, want %d", path, res.Status, want)
		}
	}
	if _, err := backend.Get(ctx, noKeepAlive, "http://"+http4+"/nothing"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("asking at a wrong path: error %v", err)
	}
}

// TestBlob: the bytes depend on the seed alone, and a short blob begins a long one.
func TestBlob(t *testing.T) {
	long, err := io.ReadAll(backend.Blob(1000, 7))
	must(t, err)
	short, err := io.ReadAll(backend.Blob(100, 7))
	must(t, err)
	other, err := io.ReadAll(backend.Blob(100, 8))
	must(t, err)
	if len(long) != 1000 || !bytes.Equal(long[:100], short) || bytes.Equal(short, other) {
		t.Error("blobs are not as promised")
	}
	if backend.BlobSum(1000, 7) == backend.BlobSum(999, 7) {
		t.Error("different blobs have one hash")
	}
}

// TestCorruption: the client's side notices a server that answers wrongly.
func TestCorruption(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/blob" {
			w.Header().Set("X-Sha256", backend.BlobSum(4, 1))
			w.Write([]byte("evil"))
			return
		}
		io.WriteString(w, "name=x client=1.2.3.4:5 server=1.2.3.4:6 bytes=4 sha256=00\n")
	})}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	base := "http://" + l.Addr().String()
	if _, err := backend.Download(ctxOf(t), noKeepAlive, base, 4, 1); err == nil {
		t.Error("a wrong download passed")
	}
	if _, err := backend.Upload(ctxOf(t), noKeepAlive, base, 4, 1); err == nil {
		t.Error("a wrong upload passed")
	}
	must(t, server.Close())
	<-served
}

// TestEcho: what is sent comes back, and the end too.
func TestEcho(t *testing.T) {
	_, _, _, echo, _, _ := local(t)
	c, err := net.Dial("tcp", echo)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	sent, err := io.ReadAll(backend.Blob(1<<20, 1))
	must(t, err)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	must(t, errors.Join(err, <-wrote))
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
	}
}

// TestUDP: answers carry what was sent, up to the greatest that fits.
func TestUDP(t *testing.T) {
	_, _, _, _, udp4, udp6 := local(t)
	for _, addr := range []string{udp4, udp6} {
		c, err := net.Dial("udp", addr)
		must(t, err)
		defer c.Close()
		for _, payload := range []string{"", "hello", "two\nlines", strings.Repeat("x", 60000)} {
			a, err := backend.AskUDP(ctxOf(t), c, []byte(payload))
			must(t, err)
			if a.Name != "b1" || a.Server.String() != addr || a.Client.String() != c.LocalAddr().String() {
				t.Errorf("%s answers %s to %s", addr, a, c.LocalAddr())
			}
		}
	}
}

// TestAskUDPGivesUp checks that AskUDP ends with its context if no answer comes.
func TestAskUDPGivesUp(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	c, err := net.Dial("udp", silent.LocalAddr().String())
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithCancel(ctxOf(t))
	cancel()
	if _, err := backend.AskUDP(ctx, c, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestAskUDPAsksAgain: a datagram that was lost is sent again, and the socket can be used long
// after its last question.
func TestAskUDPAsksAgain(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	c, err := net.Dial("udp", server.LocalAddr().String())
	must(t, err)
	defer c.Close()
	answer := backend.Answer{Name: "b1", Client: netip.MustParseAddrPort(c.LocalAddr().String()), Server: netip.MustParseAddrPort(server.LocalAddr().String())}
	go func() {
		buf := make([]byte, 100)
		for received := 1; ; received++ {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if received > 1 { // the first is lost
				_, _ = server.WriteTo(append([]byte(answer.String()+"\n"), buf[:n]...), from)
			}
		}
	}()
	if a, err := backend.AskUDP(ctxOf(t), c, []byte("x")); err != nil || a != answer {
		t.Errorf("asked again: %s, %v", a, err)
	}
	gone, cancel := context.WithCancel(ctxOf(t))
	cancel()
	// The deadline of the socket is long past.
	if _, err := backend.AskUDP(gone, c, []byte("y")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if a, err := backend.AskUDP(ctxOf(t), c, []byte("z")); err != nil || a != answer {
		t.Errorf("asked later: %s, %v", a, err)
	}
}

// TestConfigErrors checks that a backend with a wrong configuration does not run.
func TestConfigErrors(t *testing.T) {
	b, http4, _, _, udp4, _ := local(t)
	for what, cfg := range map[string]backend.Config{
		"no name":       {HTTP: []string{"127.0.0.1:0"}},
		"space in name": {Name: "a b"},
		"host name":     {Name: "b", HTTP: []string{"127.0.0.1:0", "localhost:0"}},
		"no port":       {Name: "b", Echo: []string{"127.0.0.1"}},
		"bad UDP port":  {Name: "b", UDP: []string{"127.0.0.1:70000"}},
		"port in use":   {Name: "b", Echo: []string{http4}},
		"UDP in use":    {Name: "b", UDP: []string{udp4}},
	} {
		if other, err := backend.Start(cfg); err == nil {
			other.Close()
			t.Errorf("%s: no error", what)
		}
	}
	must(t, b.Close())
	if c, err := net.Dial("tcp", http4); err == nil {
		c.Close()
		t.Error("still listening after Close")
	}
}

// TestAnswerLine checks that String and ParseAnswer agree and that other lines are refused.
func TestAnswerLine(t *testing.T) {
	for _, a := range []backend.Answer{
		{Name: "b1", Client: netip.MustParseAddrPort("10.0.0.1:2"), Server: netip.MustParseAddrPort("[fd00::1]:80")},
		{Name: "b1", Client: netip.MustParseAddrPort("10.0.0.1:2"), Server: netip.MustParseAddrPort("10.0.0.2:80"), Bytes: 7, SHA256: "ab"},
	} {
		if got, err := backend.ParseAnswer(a.String() + "\n"); got != a || err != nil {
			t.Errorf("%v became %v, error %v", a, got, err)
		}
	}
	for _, line := range []string{"", "name=a", "name=a client=x server=1.2.3.4:5", "name=a client=1.2.3.4:5 server=1.2.3.4:5 colour=red",
		"client=1.2.3.4:5 server=1.2.3.4:5", "name=a client=1.2.3.4:5 server=1.2.3.4:5 bytes=many"} {
		if _, err := backend.ParseAnswer(line); err == nil {
			t.Errorf("%q passed", line)
		}
	}
}

// TestMainArguments: wrong arguments end the program with a reason.
func TestMainArguments(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{{[]string{"-nonsense"}, 2}, {[]string{"-name", "b", "extra"}, 2}, {[]string{"-http", "127.0.0.1:0"}, 1}, {[]string{"-name", "b", "-udp", "x"}, 1}} {
		var stderr strings.Builder
		if got := backend.Main(c.args, io.Discard, &stderr); got != c.want || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, want %d; %q", c.args, got, c.want, stderr.String())
		}
	}
}

// TestProcess runs a backend as a process in a lab, on wildcard addresses. UDP answers must come
// from the address that the request was sent to, because the client's socket is connected. After
// kill -9 connections are refused.
func TestProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.New("backend")
	must(t, err)
	defer func() { must(t, lab.Close()) }()
	client, err := lab.Host("client")
	must(t, err)
	server, err := lab.Host("server")
	must(t, err)
	must(t, lab.Link(client, "eth0", server, "eth0", netlab.LinkOptions{}))
	must(t, client.Addr("eth0", "10.0.0.1/24", "fd00::1/64"))
	must(t, server.Addr("eth0", "10.0.0.2/24", "10.0.0.3/24", "fd00::2/64", "fd00::3/64"))
	must(t, server.AddLo("198.51.100.10"))
	must(t, client.Route("198.51.100.0/24", "10.0.0.2"))
	ctx := ctxOf(t)

	p, err := server.Start(backend.Command(backend.Config{Name: "b7", HTTP: []string{":80"}, Echo: []string{":7"}, UDP: []string{":53"}}))
	must(t, err)
	_, err = p.WaitLine(ctx, backend.ReadyLine)
	must(t, err)
	for _, addr := range []string{"10.0.0.2", "10.0.0.3", "198.51.100.10", "fd00::2", "fd00::3"} {
		a, err := backend.Get(ctx, client.HTTPClient(), "http://"+net.JoinHostPort(addr, "80"))
		must(t, err)
		c, err := client.Dial(ctx, "udp", net.JoinHostPort(addr, "53"))
		must(t, err)
		u, err := backend.AskUDP(ctx, c, []byte("who?"))
		must(t, err)
		must(t, c.Close())
		wantClient := "10.0.0.1"
		if strings.Contains(addr, ":") {
			wantClient = "fd00::1"
		}
		for _, got := range []backend.Answer{a, u} {
			if got.Name != "b7" || got.Server.Addr().String() != addr || got.Client.Addr().String() != wantClient {
				t.Errorf("%s answers %s", addr, got)
			}
		}
	}
	must(t, p.Kill())
	if _, err := backend.Get(ctx, client.HTTPClient(), "http://10.0.0.2:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after kill -9: error %v", err)
	}

	p, err = server.Start(backend.Command(backend.Config{Name: "b8", HTTP: []string{"10.0.0.2:80"}}))
	must(t, err)
	_, err = p.WaitLine(ctx, backend.ReadyLine)
	must(t, err)
	must(t, p.Stop(waitLimit))
	must(t, p.Wait())
}

// TestInProcess: sockets made inside a host serve it from outside.
func TestInProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.New("backend-in")
	must(t, err)
	defer func() { must(t, lab.Close()) }()
	h, err := lab.Host("a")
	must(t, err)
	var b *backend.Backend
	must(t, h.Do(func() (err error) {
		b, err = backend.Start(backend.Config{Name: "in", HTTP: []string{":80"}})
		return err
	}))
	defer b.Close()
	a, err := backend.Get(ctxOf(t), h.HTTPClient(), "http://[::1]:80")
	must(t, err)
	if a.Name != "in" {
		t.Errorf("answer %s", a)
	}
}
