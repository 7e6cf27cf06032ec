// Package doctor examines the box that Sluice runs on, or is to run on: what is in the way of
// packets, what costs speed, what would fail at the start. Each finding is one sentence, with what
// to do about it.
//
// A check is one file and one entry of Checks. It looks at a Box, which holds all facts: plain
// values, a file system for /proc and /sys, and two functions that ask the kernel about routes and
// neighbours. Look fills a Box from the machine; tests make their own. Nothing here changes
// anything, but that the kernel is asked for routes.
package doctor
