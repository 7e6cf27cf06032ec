// Package conf turns one TOML file into one checked Config value, or into the list of everything
// that is wrong with it. `sluice check` and `sluice run` call the same functions.
//
// # The way of a file
//
//	text -> index: where each key stands        (index.go, our own small scanner)
//	     -> toml.Decode: values without a shape (BurntSushi/toml: syntax and duplicates)
//	     -> tables read against Settings        (schema.go, table.go: types, ranges, unknown keys)
//	     -> engine, ports, services             (sections.go, service.go, backend.go)
//	     -> checks between services             (cross.go) and against the machine (host.go)
//	     -> Config, or Problems sorted by line
//
// # Why toml decodes into maps and not into our structs
//
// The library stops at the first value of a wrong type and gives it no line, and it keeps one
// position per key path, so inside [[service]] every error would point to the last service.
// Operators fix files by line, all lines at once. So the library says what the values are and
// rejects what is not TOML, index says where they stand, and one reader puts both together. A fuzz
// test compares index with the library: every key that one sees, the other sees.
//
// # Keys in messages
//
// A key is written as `service["web"].backend[0].weight`: an element of an array goes by its name
// once it has one, else by its position, counted from 0.
//
// # Defaults
//
// Settings is the only place that knows a default, a range or a legal word. Error messages, the
// suggestions for unknown keys and README.md come out of it.
//
// All functions here are for the control plane: they allocate, and may be called from any
// goroutine.
package conf
