//go:build amd64 || arm64

package conn

// Prefetch asks the processor to bring the lines at these addresses into its first-level cache. It only
// hints: a wrong address does nothing. A whole batch goes through one call, because the compiler cannot
// inline assembly and Go offers no prefetch of its own.
func Prefetch(addrs []uintptr) {
	if len(addrs) > 0 {
		prefetchLines(&addrs[0], len(addrs))
	}
}

//go:noescape
func prefetchLines(addr *uintptr, n int)
