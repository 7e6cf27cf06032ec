package health

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A response is an answer to a GET, as far as a check needs it. It is read more leniently than
// net/http does, because curl, keepalived and browsers are lenient, too: of the headers only those
// that delimit the body matter, and what is wrong in others is ignored.
type response struct {
	status int
	body   io.Reader // decoded; it ends with io.EOF where the body does
}

// maxHead is how many bytes of status lines and headers a probe reads.
const maxHead = 320 << 10

// errLongHead is the error of status lines and headers of more than maxHead bytes.
var errLongHead = fmt.Errorf("status line and headers are longer than %d KiB", maxHead>>10)

// readResponse reads the status line and the headers. It skips informational responses (1xx, RFC
// 9110 section 15.2); maxHead is the limit of all of them together.
func readResponse(r *bufio.Reader) (*response, error) {
	h := head{r: r, left: maxHead}
	for {
		line, err := h.line()
		if err != nil {
			return nil, unexpected(err)
		}
		status, ok := statusOf(line)
		if !ok {
			return nil, fmt.Errorf("the answer is not HTTP: it begins with %q", clip([]byte(line)))
		}
		length, chunked, err := h.fields()
		switch {
		case err != nil:
			return nil, err
		case status >= 200 || status == http.StatusSwitchingProtocols:
			return &response{status, bodyOf(r, status, length, chunked)}, nil
		}
	}
}

// unexpected replaces io.EOF, which means a regular end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// statusOf returns the code of a status line of any version: "HTTP/1.1 200 OK", "HTTP/1.0 200".
func statusOf(line string) (status int, ok bool) {
	version, rest, _ := strings.Cut(line, " ")
	if len(version) < 5 || !strings.EqualFold(version[:5], "HTTP/") {
		return 0, false
	}
	digits := leadingDigits(strings.TrimLeft(rest, " "))
	status, err := strconv.Atoi(digits)
	return status, err == nil && len(digits) == 3 && status >= 100
}

func leadingDigits(text string) string {
	rest := strings.TrimLeft(text, "0123456789")
	return text[:len(text)-len(rest)]
}

// head reads lines within a limit.
type head struct {
	r    *bufio.Reader
	left int // bytes
}

// line returns the next line without its end, LF or CRLF. Of a line that the buffer of r cannot
// hold it returns the beginning.
func (h *head) line() (string, error) {
	var first []byte
	for {
		part, err := h.r.ReadSlice('\n')
		if h.left -= len(part); h.left < 0 {
			return "", errLongHead
		}
		if first == nil {
			first = bytes.Clone(part) // the next read overwrites part
		}
		switch {
		case err == nil:
			return strings.TrimRight(string(first), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

// fields reads the headers up to the empty line, or up to the end of the connection, and returns
// what delimits the body. length is -1 if it ends with the connection. Of several lengths the last
// one counts.
func (h *head) fields() (length int64, chunked bool, err error) {
	length = -1
	for {
		line, err := h.line()
		if line == "" {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return length, chunked, err
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-length":
			if n, err := strconv.ParseInt(leadingDigits(value), 10, 64); err == nil {
				length = n
			}
		case "transfer-encoding":
			last := value[strings.LastIndexByte(value, ',')+1:]
			chunked = strings.EqualFold(strings.TrimSpace(last), "chunked")
		}
	}
}

// bodyOf returns the body that follows the headers (RFC 9112 section 6.3).
func bodyOf(r *bufio.Reader, status int, length int64, chunked bool) io.Reader {
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		return &exactly{r, 0}
	case chunked:
		return &chunks{head: head{r: r, left: maxHead}}
	case length >= 0:
		return &exactly{r, length}
	}
	return r
}

// exactly reads left bytes; a connection that ends before is an error.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(b[:min(int64(len(b)), e.left)])
	e.left -= int64(n)
	return n, unexpected(err)
}

// chunks reads a chunked body (RFC 9112 section 7.1), without its trailer.
type chunks struct {
	head
	chunk exactly // that is being read
	begun bool    // the first one has begun
	ended bool
}

func (c *chunks) Read(b []byte) (int, error) {
	if c.chunk.left == 0 && !c.ended {
		if err := c.next(); err != nil {
			return 0, unexpected(err)
		}
	}
	if c.ended {
		return 0, io.EOF
	}
	return c.chunk.Read(b)
}

// next begins a chunk.
func (c *chunks) next() error {
	if c.begun {
		if _, err := c.line(); err != nil { // the end of the chunk before
			return err
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	digits, _, _ := strings.Cut(line, ";")
	size, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 63)
	if err != nil {
		return fmt.Errorf("a chunk of the answer has the size %q, which is not hexadecimal", clip([]byte(digits)))
	}
	c.chunk, c.begun, c.ended = exactly{c.r, int64(size)}, true, size == 0
	return nil
}

// contains reads until the body has contained a text, and reports whether it has. It reads at most
// maxRead bytes.
func (r *response) contains(text string) (bool, error) {
	body := io.LimitReader(r.body, maxRead)
	var window []byte // the end of what was read, with what may be the beginning of the text
	part := make([]byte, 4096)
	for {
		n, err := body.Read(part)
		window = append(window, part[:n]...)
		if bytes.Contains(window, []byte(text)) {
			return true, nil
		}
		window = window[max(0, len(window)-len(text)):]
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errTooMuch), errors.Is(err, errLongHead):
			return false, nil
		case err != nil:
			return false, err
		}
	}
}
