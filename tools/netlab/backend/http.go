package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
)

// maxBlob bounds the body of GET /blob, in bytes.
const maxBlob = 4 << 30

func handler(name string) http.Handler {
	mux := http.NewServeMux()
	plain := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, answerTo(name, r))
	}
	mux.HandleFunc("GET /{$}", plain)
	mux.HandleFunc("GET /healthz", plain)
	mux.HandleFunc("GET /blob", func(w http.ResponseWriter, r *http.Request) { serveBlob(name, w, r) })
	upload := func(w http.ResponseWriter, r *http.Request) { takeUpload(name, w, r) }
	mux.HandleFunc("PUT /upload", upload)
	mux.HandleFunc("POST /upload", upload)
	return mux
}

// answerTo returns the answer to a request.
func answerTo(name string, r *http.Request) Answer {
	a := Answer{Name: name}
	a.Client, _ = netip.ParseAddrPort(r.RemoteAddr) // net/http got it from a TCP connection
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		a.Server, _ = netip.ParseAddrPort(local.String())
	}
	return a
}

// serveBlob generates the body twice, once for its hash, because a header is easier to use than a
// trailer.
func serveBlob(name string, w http.ResponseWriter, r *http.Request) {
	bytes, errBytes := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	seed, errSeed := strconv.ParseUint(r.FormValue("seed"), 10, 64)
	if errBytes != nil || errSeed != nil || bytes < 0 || bytes > maxBlob {
		http.Error(w, fmt.Sprintf("give ?bytes=N&seed=S, N from 0 to %d, S a number", int64(maxBlob)), http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Backend", name)
	w.Header().Set("X-Sha256", BlobSum(bytes, seed))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(bytes, 10))
	_, _ = io.Copy(w, Blob(bytes, seed)) // fails only if the client has gone
}

func takeUpload(name string, w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	bytes, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a := answerTo(name, r)
	a.Bytes, a.SHA256 = bytes, hex.EncodeToString(sum.Sum(nil))
	fmt.Fprintln(w, a)
}
