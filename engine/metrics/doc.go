// Package metrics exports a daemon's counters to Prometheus.
//
// An Exporter calls the api.Control when it is scraped and caches the answer for a second, so that
// several scrapers cost no more than one. families.go lists every metric. README.md is generated
// from it, and tests compare the alert rules and the Grafana dashboard with it.
//
// The package starts no goroutine; any goroutine may use an Exporter. It imports engine/api and
// Prometheus's client_golang. Sources: Prometheus's exposition formats and its guide to metric
// names.
package metrics
