//go:build race

package engine_test

// raceDetector says that the race detector is at work: everything takes ten times as long.
const raceDetector = true
