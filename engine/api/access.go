package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Access says who may do what over the network. On the control socket its owner may do everything.
//
// Reads are open or need the token, writes always need it. A browser on this machine is no reason
// to trust the page that it shows, so what a page from elsewhere sends is refused: by
// Sec-Fetch-Site and Origin, and by the name in Host, since a page may have its own name resolve to
// our address (DNS rebinding). Answers allow no other origin to read them (no CORS), and no page to
// frame them.
type Access struct {
	TokenFile string // holds the token; "": nobody has it
	OpenReads bool   // reads need no token
	Host      string // a name in Host that is ours, besides addresses, localhost and the machine's own name; "": none
}

// caller is what is known of the client of a request. Without one in the context nothing is
// allowed.
type caller struct {
	all   bool         // the control socket
	open  bool         // reads need no token
	token *failureBody // nil: it has shown the token
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		c.token = &failureBody{Text: "this way of asking is not known", status: http.StatusForbidden}
	}
	return c
}

// trusted is the BaseContext of the control socket.
func trusted(net.Listener) context.Context {
	return context.WithValue(context.Background(), callerKey{}, caller{all: true})
}

// mayRead and mayWrite give nil, or how to answer one who may not.
func (c caller) mayRead() *failureBody {
	if c.open {
		return nil
	}
	return c.mayWrite()
}

func (c caller) mayWrite() *failureBody {
	if c.all {
		return nil
	}
	return c.token
}

// permitOperation refuses operations that the caller may not have.
func (s *Server) permitOperation(c huma.Context, next func(huma.Context)) {
	may := callerOf(c.Context()).mayRead
	if mentionsToken(c.Operation()) {
		may = callerOf(c.Context()).mayWrite
	}
	if refusal := may(); refusal != nil {
		_, w := humago.Unwrap(c)
		refusal.write(w)
		return
	}
	next(c)
}

// guard stands before everything that comes by the network.
func (a Access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Cache-Control":                "no-store",
			"Content-Security-Policy":      "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
		} {
			w.Header().Set(name, value)
		}
		c := caller{open: a.OpenReads, token: a.showsToken(r)}
		refusal := foreignPage(r)
		if refusal == nil && c.open && c.token != nil { // else who asks knows the token, which no page elsewhere does
			refusal = a.foreignName(r)
		}
		if refusal != nil {
			refusal.write(w)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// foreignPage refuses what a page of another origin has a browser send, but for links to here.
func foreignPage(r *http.Request) *failureBody {
	header := r.Header
	foreign := false
	switch header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		foreign = !read || header.Get("Sec-Fetch-Mode") != "navigate" || header.Get("Sec-Fetch-Dest") != "document"
	}
	if origin := header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		foreign = foreign || err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host)
	}
	if !foreign {
		return nil
	}
	return &failureBody{Text: "a page from elsewhere may not use this API: open the page that is served here", status: http.StatusForbidden}
}

// foreignName refuses requests for a host that we don't know to be this one.
func (a Access) foreignName(r *http.Request) *failureBody {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	own, _ := os.Hostname() // a machine without a name has one less
	ours := []string{"localhost", strings.ToLower(own), strings.ToLower(a.Host)}
	if host != "" && slices.Contains(ours, host) {
		return nil
	}
	return &failureBody{status: http.StatusForbidden, Text: fmt.Sprintf(
		"%q is no name of this machine that it knows: ask by address, send the token, or set [api] host = %q", host, host)}
}

// showsToken gives nil if the request has the token, or how to answer if it needs it.
func (a Access) showsToken(r *http.Request) *failureBody {
	if a.TokenFile == "" {
		return &failureBody{status: http.StatusForbidden, Text: "refused, because no token is configured: set [api] token_file to a file " +
			"that holds one, or ask on the control socket, as sluice's own commands do"}
	}
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") { // RFC 9110, 11.1: case doesn't matter
		return &failureBody{status: http.StatusUnauthorized,
			Text: "this needs the token: send the header \"Authorization: Bearer TOKEN\", TOKEN being the content of [api] token_file"}
	}
	// The file is read each time, so that a new token needs no restart.
	token, err := ReadToken(a.TokenFile)
	if err != nil {
		return &failureBody{status: http.StatusForbidden, Text: "no token is valid now: " + err.Error()}
	}
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(strings.TrimSpace(shown)))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return &failureBody{status: http.StatusUnauthorized, Text: "this is not the token in [api] token_file"}
	}
	return nil
}

// Bounds of a token in bytes: what can be guessed is none.
const (
	minToken = 16
	maxToken = 1024
)

// ReadToken reads the token out of a file that nobody else may read: one line of 16 to 1024
// printable ASCII characters without spaces. os.ErrNotExist is among its errors.
func ReadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return "", fmt.Errorf("token file %s is not a regular file", path)
	case mode.Perm()&0o007 != 0:
		return "", fmt.Errorf("token file %s has mode %04o, so everybody on this machine can read or write it: chmod 0600 %s", path, mode.Perm(), path)
	case info.Size() > maxToken+2:
		return "", fmt.Errorf("token file %s has %d bytes: a token has %d to %d", path, info.Size(), minToken, maxToken)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimRight(string(data), "\r\n")
	odd := strings.IndexFunc(token, func(c rune) bool { return c <= ' ' || c > '~' })
	if len(token) < minToken || len(token) > maxToken || odd >= 0 {
		return "", fmt.Errorf("token file %s must hold one line of %d to %d printable characters without spaces, "+
			"such as `openssl rand -hex 32` writes", path, minToken, maxToken)
	}
	return token, nil
}
