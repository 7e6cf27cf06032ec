package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// NoSuchService is the error for a service that is not configured.
type NoSuchService struct {
	Service string   `json:"service"` // as requested
	Legal   []string `json:"legal"`   // the names of all services
}

func (e *NoSuchService) Error() string {
	if len(e.Legal) == 0 {
		return fmt.Sprintf("no service %q: none is configured", e.Service)
	}
	return fmt.Sprintf("no service %q: must be one of %s", e.Service, strings.Join(e.Legal, ", "))
}

// NoSuchBackend is the error for a backend that its service does not have.
type NoSuchBackend struct {
	Service string   `json:"service"`
	Backend string   `json:"backend"` // as requested
	Legal   []string `json:"legal"`   // the endpoints of all backends of the service
}

func (e *NoSuchBackend) Error() string {
	return fmt.Sprintf("service %q has no backend %q: must be one of %s", e.Service, e.Backend, strings.Join(e.Legal, ", "))
}

// Ambiguous is the error for a short form that fits several services or backends.
type Ambiguous struct {
	Text string   `json:"text"` // as requested
	Fits []string `json:"fits"`
}

func (e *Ambiguous) Error() string {
	return fmt.Sprintf("%q is ambiguous: must be one of %s", e.Text, strings.Join(e.Fits, ", "))
}

// Unresponsive is the error of a request that some workers have not answered. The answer beside it
// is valid, with what is known: for those workers, what they answered last.
type Unresponsive struct {
	Workers []int `json:"workers"`
	// Applied: the request was a change. It is in force, and these workers still work by what was
	// in force before.
	Applied bool `json:"applied"`
}

func (e *Unresponsive) Error() string {
	name, has, it := "worker ", "has", "it"
	if len(e.Workers) > 1 {
		name, has, it = "workers ", "have", "them"
	}
	for i, w := range e.Workers {
		if i > 0 {
			name += ", "
		}
		name += strconv.Itoa(w)
	}
	if e.Applied {
		return fmt.Sprintf("applied, %s %s not taken it up", name, has)
	}
	return fmt.Sprintf("%s %s not answered: what is shown of %s may be old or missing", name, has, it)
}

// Answered returns err unless it is an Unresponsive, beside which the answer is valid.
func Answered(err error) error {
	if errors.As(err, new(*Unresponsive)) {
		return nil
	}
	return err
}

// NoDaemon is the error for a socket without a listener.
type NoDaemon struct{ Socket string }

func (e *NoDaemon) Error() string {
	return fmt.Sprintf("no sluice answers on %s: start it, or set --socket", e.Socket)
}
