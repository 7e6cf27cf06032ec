// Package report tells people and programs what was measured: a line each second, a text or JSON at
// the end, and plots as SVG.
package report
