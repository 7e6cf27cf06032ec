package netlab

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onOwnThread starts a goroutine that is locked to a thread and calls f on it. When f returns
// without having called runtime.UnlockOSThread, the thread ends. It is never the process's main
// thread: that one cannot end, and /proc/PID/ns and /proc/PID/net show its namespaces as those of
// the process.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// While this goroutine holds the main thread, the next one cannot get it.
		started := make(chan struct{})
		onOwnThread(func() { close(started); f() })
		<-started
		runtime.UnlockOSThread()
	}()
}

// thread runs functions one after the other on one thread that lives until end is called.
type thread struct{ jobs chan func() }

// newThread returns when setUp has run on the thread; if that failed, the thread is gone.
func newThread(setUp func() error) (*thread, error) {
	t := &thread{jobs: make(chan func())}
	ready := make(chan error)
	onOwnThread(func() {
		err := setUp()
		ready <- err
		if err != nil {
			return
		}
		for job := range t.jobs {
			job()
		}
	})
	return t, <-ready
}

// call runs f on the thread and waits for it. It must not be called after end.
func (t *thread) call(f func() error) error {
	done := make(chan error)
	t.jobs <- func() { done <- f() }
	return <-done
}

func (t *thread) end() { close(t.jobs) }
