package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// What the verbs have in common that measure the real program over veth.

// measured returns the absolute path of the program to measure.
func measured(program string) (path string, err error) {
	if path, err = filepath.Abs(program); err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("the program to measure (make build makes it): %w", err)
	}
	return path, nil
}

// untilStopped returns a context that ends at the first signal that asks for the end; a second one
// ends the program at once.
func untilStopped() (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// progress returns a function that prints lines with the seconds since now.
func progress() func(format string, args ...any) {
	started := time.Now()
	return func(format string, args ...any) {
		fmt.Printf("%6.1f  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}
}
