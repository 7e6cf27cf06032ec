// Package page is the web page of [api] http: it shows a running daemon and, with the token,
// changes weights. The files are embedded unchanged; there is no build step, and nothing is loaded
// from other servers.
//
// files/lib is uPlot 1.6.32 (https://github.com/leeoniya/uPlot, MIT, its licence beside it),
// unchanged.
//
// The browser requests /v1/services, /v1/stats and /v1/alarms once a second and computes rates
// itself. The daemon's texts are inserted as text, never as markup, and the Content-Security-Policy
// allows no inline script. So a hostile service name or backend error remains text.
//
// The package starts no goroutine and imports nothing of Sluice.
package page

import (
	"embed"
	"net/http"
	"path"
)

//go:embed files
var files embed.FS

// types are the content types of the files, by suffix: the machine's own table may differ, and
// nosniff is sent.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// policy allows scripts, styles and requests of this origin only. form-action and the directives
// after it are not covered by default-src.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Paths are the http.ServeMux patterns of Handler.
var Paths = []string{"GET /{$}", "GET /page/"}

// Handler serves the page at / and its files below /page/. They have no data about this daemon, so
// that all clients may get them: the page requests what it shows, and that may be refused.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "index.html"
		if r.URL.Path != "/" {
			name = r.URL.Path[len("/page/"):]
		}
		data, err := files.ReadFile(path.Join("files", path.Clean("/"+name)))
		if err != nil || types[path.Ext(name)] == "" {
			http.NotFound(w, r)
			return
		}
		header := w.Header()
		header.Set("Content-Type", types[path.Ext(name)])
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-cache")
		_, _ = w.Write(data) // fails only when the client has disconnected
	})
}
