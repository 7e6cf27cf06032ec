// Package report writes results: a line each second, text or JSON at the end, and plots as SVG.
package report
