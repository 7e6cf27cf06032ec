// Package conf parses one TOML file into one checked Config, or into the list of all errors in it.
// `sluice check` and `sluice run` call the same functions.
//
// # Steps
//
//	text -> index: the line of each key     (index.go, our own small scanner)
//	     -> toml.Decode: untyped values     (BurntSushi/toml: syntax and duplicates)
//	     -> tables, read by Settings        (schema.go, table.go: types, ranges, unknown keys)
//	     -> engine, ports, services         (sections.go, service.go, backend.go)
//	     -> checks between services         (cross.go) and against the machine (host.go)
//	     -> Config, or Problems sorted by line
//
// # Why toml decodes into maps and not into our structs
//
// The library stops at the first value of a wrong type and reports no line for it, and it stores
// one position per key path, so inside [[service]] every error would point to the last service.
// Operators fix files by line, all lines at once. So the library parses the values and rejects what
// is not TOML, index finds their lines, and one reader combines both. A fuzz test compares index
// with the library: both find the same keys.
//
// # Keys in messages
//
// A key is written as `service["web"].backend[0].weight`: an element of an array is identified by
// its name if it has one, else by its position, counted from 0.
//
// # Defaults
//
// Settings is the only place with defaults, ranges and allowed words. Error messages, the
// suggestions for unknown keys and README.md are generated from it.
//
// All functions are for the control plane: they allocate, and any goroutine may call them. The
// package starts no goroutine and imports only pipeline/service. Sources: the TOML 1.0
// specification, and ipvsadm(8) for the words.
package conf
