// Package daemon is the process behind `sluice run`. It loads the configuration, starts the engine,
// serves the API, the metrics and the event log, turns signals into reloads and stops, and reports
// to systemd.
//
//	daemon.go     Run: the life of the process, from the file to the last packet
//	wiring.go     LoadConfig and the engine's options
//	privileges.go which capabilities are missing
//	audit_log.go  a log line for every change that an operator makes
//	systemd.go    readiness and reloads for the service manager
//	watchdog.go   a sign of life for the service manager, while every worker runs
package daemon
