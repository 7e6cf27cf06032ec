package eventlog

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// writeTimeout is how long Impatient waits for one write.
const writeTimeout = time.Second

// Impatient returns a writer to w for the last words of a process. A write that takes longer than
// a second continues on a goroutine of its own, and all later ones fail at once.
func Impatient(w io.Writer) io.Writer { return &impatient{w: w} }

type impatient struct {
	w     io.Writer
	stuck atomic.Bool // a write takes too long
}

func (i *impatient) Write(data []byte) (int, error) {
	if i.stuck.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	written := make(chan error, 1)
	copied := bytes.Clone(data)
	go func() {
		_, err := i.w.Write(copied)
		written <- err
	}()
	select {
	case err := <-written:
		return len(data), err
	case <-time.After(writeTimeout):
		i.stuck.Store(true)
		return 0, os.ErrDeadlineExceeded
	}
}
