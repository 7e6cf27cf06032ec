//go:build !amd64 && !arm64

package conn

// Prefetch does nothing on this architecture.
func Prefetch([]uintptr) {}
