package backend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// Get sends an HTTP request to a backend, or to a balancer before it, and returns the answer. base
// is like "http://198.51.100.10:80".
func Get(ctx context.Context, c *http.Client, base string) (Answer, error) {
	res, err := do(ctx, c, http.MethodGet, base+"/", nil, 0)
	if err != nil {
		return Answer{}, err
	}
	return readAnswer(res)
}

// Upload sends a blob and checks that it arrived unchanged.
func Upload(ctx context.Context, c *http.Client, base string, bytes int64, seed uint64) (Answer, error) {
	res, err := do(ctx, c, http.MethodPut, base+"/upload", Blob(bytes, seed), bytes)
	if err != nil {
		return Answer{}, err
	}
	a, err := readAnswer(res)
	if err == nil && (a.Bytes != bytes || a.SHA256 != BlobSum(bytes, seed)) {
		err = fmt.Errorf("backend: upload to %s: sent %d bytes with SHA-256 %s, %s got %d with %s",
			base, bytes, BlobSum(bytes, seed), a.Name, a.Bytes, a.SHA256)
	}
	return a, err
}

// Download fetches a blob, checks that it arrived unchanged, and returns the name of the backend.
func Download(ctx context.Context, c *http.Client, base string, bytes int64, seed uint64) (name string, err error) {
	res, err := do(ctx, c, http.MethodGet, fmt.Sprintf("%s/blob?bytes=%d&seed=%d", base, bytes, seed), nil, 0)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	name = res.Header.Get("X-Backend")
	sum := sha256.New()
	n, err := io.Copy(sum, res.Body)
	if err != nil {
		return name, fmt.Errorf("backend: download from %s (%s): after %d of %d bytes: %w", base, name, n, bytes, err)
	}
	got, want := hex.EncodeToString(sum.Sum(nil)), BlobSum(bytes, seed)
	if n != bytes || got != want || res.Header.Get("X-Sha256") != want {
		return name, fmt.Errorf("backend: download from %s (%s): got %d bytes with SHA-256 %s, want %d with %s; the server says %s",
			base, name, n, got, bytes, want, res.Header.Get("X-Sha256"))
	}
	return name, nil
}

// AskUDP sends one datagram on a connected UDP socket, again after each second without an answer,
// and returns the answer. Answers with other bytes, which belong to earlier datagrams, are ignored.
func AskUDP(ctx context.Context, c net.Conn, payload []byte) (Answer, error) {
	for buf := make([]byte, 1<<16); ; {
		// The deadline that the end of ctx sets may come after a fast answer.
		if err := ctx.Err(); err != nil {
			return Answer{}, err
		}
		if _, err := c.Write(payload); err != nil {
			return Answer{}, errors.Join(err, ctx.Err())
		}
		a, err := awaitUDP(ctx, c, payload, buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return a, err
		}
	}
}

// resendAfter is how long a request over UDP waits for its answer before it is sent again, as a
// resolver would: datagrams may be lost, most of all on a busy machine.
const resendAfter = time.Second

// awaitUDP reads until the answer to the payload comes, ctx ends, or it is time to send again.
func awaitUDP(ctx context.Context, c net.Conn, payload, buf []byte) (Answer, error) {
	// Not a deadline for writes: the next write may come much later.
	if err := c.SetReadDeadline(time.Now().Add(resendAfter)); err != nil {
		return Answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		n, err := c.Read(buf)
		if err != nil {
			return Answer{}, errors.Join(err, ctx.Err())
		}
		a, echo, err := SplitUDP(buf[:n])
		if err != nil || bytes.Equal(echo, payload) {
			return a, err
		}
	}
}

func do(ctx context.Context, c *http.Client, method, url string, body io.Reader, bytes int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = bytes
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 256))
		return nil, fmt.Errorf("backend: %s %s: %s: %s", method, url, res.Status, text)
	}
	return res, nil
}

func readAnswer(res *http.Response) (Answer, error) {
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return Answer{}, err
	}
	return ParseAnswer(string(text))
}
