// Package top is the live view of a daemon in a terminal.
//
// Problems come first: services with a backend that is down, then those with a draining one, then
// the rest, and in the same order within a service. Once a second it calls List and Stats of the
// daemon; rates are the differences to the previous answers. Model is a state machine without clock
// or terminal, so that tests feed it messages and compare frames.
//
// Bubble Tea runs Model on one goroutine, and polls and actions on others. The package imports
// engine/api and cmd/sluice/text.
package top
