// Package tidy is the rules of this repository, as tests: which room may import which, where unsafe
// may stand, how long a function may be, and so on. A rule that fails says which file breaks it and
// why it is there.
//
// The rules read files through fs.FS, so that they are tested themselves on repositories that break
// them. They don't ask `go list`: a test that starts a program is served from the test cache
// although the tree has changed, a test that reads files is not.
//
// A rule is not loosened to make a build pass: it changes when the design does.
package tidy
