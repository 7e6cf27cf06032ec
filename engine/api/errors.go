package api

import (
	"fmt"
	"strings"
)

// NoSuchService is the error for a service that is not configured.
type NoSuchService struct {
	Service string   `json:"service"` // what was asked for
	Legal   []string `json:"legal"`   // the names of all services
}

func (e *NoSuchService) Error() string {
	if len(e.Legal) == 0 {
		return fmt.Sprintf("no service %q: none is configured", e.Service)
	}
	return fmt.Sprintf("no service %q: there is %s", e.Service, strings.Join(e.Legal, ", "))
}

// NoSuchBackend is the error for a backend that its service does not have.
type NoSuchBackend struct {
	Service string   `json:"service"`
	Backend string   `json:"backend"` // what was asked for
	Legal   []string `json:"legal"`   // the endpoints of all backends of the service
}

func (e *NoSuchBackend) Error() string {
	return fmt.Sprintf("service %q has no backend %q: it has %s", e.Service, e.Backend, strings.Join(e.Legal, ", "))
}

// Ambiguous is the error for a short form that fits several services or backends.
type Ambiguous struct {
	Text string   `json:"text"` // what was asked for
	Fits []string `json:"fits"`
}

func (e *Ambiguous) Error() string {
	return fmt.Sprintf("%q could be any of %s: say which", e.Text, strings.Join(e.Fits, ", "))
}

// NoDaemon is the error for a socket that nobody answers on.
type NoDaemon struct{ Socket string }

func (e *NoDaemon) Error() string {
	return fmt.Sprintf("no sluice answers on %s: is it running? try --socket", e.Socket)
}
