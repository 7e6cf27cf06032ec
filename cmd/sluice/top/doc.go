// Package top is the live view of a daemon in a terminal.
//
// What is broken comes first: services with a backend that is down, then those with one that
// drains, then the rest; and so within a service. Once a second two questions go to the daemon,
// List and Stats; everything that is per second is the difference to the answers before. Model is a
// state machine without clock or terminal of its own, so that tests feed it messages and compare
// the frames.
package top
