package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"sluice/tools/netlab/backend"
)

// requestTimeout bounds one request. It is long enough for a lost SYN, which is sent again after a
// second.
const requestTimeout = 10 * time.Second

// Spread has the results of requests, each on a connection or socket of its own.
type Spread struct {
	By      [Backends]int      // answered, by backend
	Refused int                // by RST or ICMP error
	Clients map[netip.Addr]int // client addresses that the backends saw
	Errors  []error            // of all others
	Turns   []string           // the answers in their order: backend and client port that it saw
}

// Answered returns the number of answered requests.
func (s *Spread) Answered() (n int) {
	for _, by := range s.By {
		n += by
	}
	return n
}

// String returns text like "20/20/20" or "20/20/0, 20 refused".
func (s *Spread) String() string {
	text := strings.ReplaceAll(strings.Trim(fmt.Sprint(s.By), "[]"), " ", "/")
	if s.Refused > 0 {
		text += fmt.Sprintf(", %d refused", s.Refused)
	}
	if len(s.Errors) > 0 {
		text += fmt.Sprintf(", %d failed: %v", len(s.Errors), s.Errors[0])
	}
	return text
}

func (s *Spread) add(a backend.Answer, err error) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		s.Refused++
	case err != nil:
		s.Errors = append(s.Errors, err)
	default:
		number := 0
		if _, err := fmt.Sscanf(a.Name, "b%d", &number); err != nil || number < 1 || number > Backends {
			s.Errors = append(s.Errors, fmt.Errorf("an answer of a backend named %q", a.Name))
			return
		}
		s.By[number-1]++
		s.Turns = append(s.Turns, fmt.Sprint(a.Name, ":", a.Client.Port()))
		if s.Clients == nil {
			s.Clients = map[netip.Addr]int{}
		}
		s.Clients[a.Client.Addr()]++
	}
}

// Ask makes HTTP requests one after the other, each on a new connection.
func (b *Bed) Ask(ctx context.Context, url string, requests int) (s Spread) {
	client := b.Client.HTTPClient()
	for range requests {
		each, cancel := context.WithTimeout(ctx, requestTimeout)
		s.add(backend.Get(each, client, url))
		cancel()
	}
	return s
}

// AskUDP sends datagrams one after the other, each from a new socket, and waits for the answers.
// The sockets stay open meanwhile: a socket with the port of an earlier one would be the same
// connection.
func (b *Bed) AskUDP(ctx context.Context, addr string, requests int) (s Spread) {
	for i := range requests {
		c, err := b.Client.Dial(ctx, "udp", addr)
		if err != nil {
			s.Errors = append(s.Errors, err)
			continue
		}
		defer c.Close()
		each, cancel := context.WithTimeout(ctx, requestTimeout)
		s.add(backend.AskUDP(each, c, fmt.Appendf(nil, "request %d", i)))
		cancel()
	}
	return s
}

// Upload sends a blob over HTTP and checks the backend's SHA-256 of it.
func (b *Bed) Upload(ctx context.Context, url string, bytes int64, seed uint64) error {
	_, err := backend.Upload(ctx, b.Client.HTTPClient(), url, bytes, seed)
	return err
}

// Download fetches a blob over HTTP and checks its SHA-256.
func (b *Bed) Download(ctx context.Context, url string, bytes int64, seed uint64) error {
	_, err := backend.Download(ctx, b.Client.HTTPClient(), url, bytes, seed)
	return err
}
