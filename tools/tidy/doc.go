// Package tidy tests the repository itself: which package may import which, which files may use
// unsafe, how long a function may be, which words are avoided. The message of a rule names the file
// that breaks it, the reason, and what to do.
//
// The rules read files through fs.FS, so that they are tested on small trees that break them. They
// do not run `go list`: the test cache does not see what a started program reads, and would serve a
// stale result.
//
// These are tests and not settings of golangci-lint, because they must hold in `make test` on a
// fresh clone, and there golangci-lint takes minutes to build. Also, depguard cannot require a rule
// for every package.
//
// A rule is not loosened to make a build pass. It changes when the design does.
package tidy
