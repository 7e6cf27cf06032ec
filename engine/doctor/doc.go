// Package doctor examines the machine that Sluice runs on, or will run on: what stops packets, what
// costs speed, and what would fail at the start. Each finding is one sentence and a fix.
//
// A check is one file and one entry of Checks. It works on a Box, which holds all facts: plain
// values, a file system for /proc and /sys, and two functions that ask the kernel about routes and
// neighbours. Collect fills a Box from the machine; tests make their own. No check changes
// anything.
package doctor
