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

// Access configures who may do what over the network. On the control socket every request is
// allowed.
//
// Reads are open or need the token; writes always need it. A browser on this machine does not make
// the page that it shows trustworthy. So requests of pages of other origins are refused: by
// Sec-Fetch-Site and Origin, and by the name in Host, because a page may let its own name resolve
// to our address (DNS rebinding). Answers allow no other origin to read them (no CORS) and no page
// to frame them.
type Access struct {
	TokenFile string // file with the token; "": writes are impossible
	OpenReads bool   // reads need no token
	// Host is an accepted name in Host, besides addresses, localhost and the machine's own name;
	// "": none.
	Host string
}

// caller is what is known about the client of a request. Without a caller in the context nothing is
// allowed.
type caller struct {
	all   bool         // on the control socket
	open  bool         // reads need no token
	token *failureBody // nil: the request has the token
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		c.token = &failureBody{Text: "unknown kind of connection", status: http.StatusForbidden}
	}
	return c
}

// trusted is the BaseContext of the control socket.
func trusted(net.Listener) context.Context {
	return context.WithValue(context.Background(), callerKey{}, caller{all: true})
}

// mayRead and mayWrite return nil, or the answer to a client that may not.
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

// permitOperation refuses operations that the caller may not use.
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

// handler checks every request from the network before next handles it.
func (a Access) handler(next http.Handler) http.Handler {
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
		// A request with the token is never from a foreign page: only our page knows it.
		if refusal == nil && c.open && c.token != nil {
			refusal = a.foreignName(r)
		}
		if refusal != nil {
			refusal.write(w)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// foreignPage refuses what a browser sends for a page of another origin, except links to this page.
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
	return &failureBody{Text: "a page of another origin must not use this API: open the page that this server serves", status: http.StatusForbidden}
}

// foreignName refuses requests for a host name that is not known to be this machine's.
func (a Access) foreignName(r *http.Request) *failureBody {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	own, _ := os.Hostname() // without a name there is one less
	ours := []string{"localhost", strings.ToLower(own), strings.ToLower(a.Host)}
	if host != "" && slices.Contains(ours, host) {
		return nil
	}
	return &failureBody{status: http.StatusForbidden, Text: fmt.Sprintf(
		"%q is not a known name of this machine: use its address, send the token, or set [api] host = %q", host, host)}
}

// showsToken returns nil if the request has the token, or the answer if it needs it.
func (a Access) showsToken(r *http.Request) *failureBody {
	if a.TokenFile == "" {
		return &failureBody{status: http.StatusForbidden, Text: "refused because no token is configured: set [api] token_file to a file " +
			"with a token, or use the control socket, as sluice's own commands do"}
	}
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") { // RFC 9110, 11.1: case-insensitive
		return &failureBody{status: http.StatusUnauthorized,
			Text: "this needs the token: send the header \"Authorization: Bearer TOKEN\", where TOKEN is the content of [api] token_file"}
	}
	// The file is read for each request, so that a new token needs no restart.
	token, err := ReadToken(a.TokenFile)
	if err != nil {
		return &failureBody{status: http.StatusForbidden, Text: "no token is valid at present: " + err.Error()}
	}
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(strings.TrimSpace(shown)))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return &failureBody{status: http.StatusUnauthorized, Text: "this is not the token in [api] token_file"}
	}
	return nil
}

// Limits of a token's length in bytes: a short token can be guessed.
const (
	minToken = 16
	maxToken = 1024
)

// ReadToken reads the token from a file that other users must not be able to read: one line of 16
// to 1024 printable ASCII characters without spaces. Its errors include os.ErrNotExist.
func ReadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return "", fmt.Errorf("token file %s is not a regular file", path)
	case mode.Perm()&0o007 != 0:
		return "", fmt.Errorf("token file %s has mode %04o, so all users of this machine can read or write it: chmod 0600 %s", path, mode.Perm(), path)
	case info.Size() > maxToken+2:
		return "", fmt.Errorf("token file %s has %d bytes; allowed: %d to %d", path, info.Size(), minToken, maxToken)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimRight(string(data), "\r\n")
	odd := strings.IndexFunc(token, func(c rune) bool { return c <= ' ' || c > '~' })
	if len(token) < minToken || len(token) > maxToken || odd >= 0 {
		return "", fmt.Errorf("token file %s must have one line of %d to %d printable characters without spaces, "+
			"for example the output of `openssl rand -hex 32`", path, minToken, maxToken)
	}
	return token, nil
}
