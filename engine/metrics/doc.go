// Package metrics shows a daemon's counters to Prometheus.
//
// An Exporter asks the api.Control when it is scraped, and keeps the answer for a second, so that
// several scrapers cost no more than one. families.go names every metric; README.md is made from
// it, and the alert rules and the Grafana dashboard beside it are tested against it.
package metrics
