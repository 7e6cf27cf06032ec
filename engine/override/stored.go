package override

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sluice/pipeline/service"
)

// File is the name of the file that holds the overrides in the state directory.
const File = "overrides.json"

// version is the version of the stored form that this program reads and writes.
const version = 1

type storedSet struct {
	Version   int      `json:"version"`
	Overrides []stored `json:"overrides"`
}

type stored struct {
	Protocol   string    `json:"protocol"`
	Address    string    `json:"address"`
	Ports      string    `json:"ports"`
	Backend    string    `json:"backend"`
	State      State     `json:"state,omitempty"`
	Weight     *int      `json:"weight,omitempty"`
	FileWeight int       `json:"file_weight,omitempty"`
	Deadline   time.Time `json:"deadline,omitzero"`
	Since      time.Time `json:"since"`
}

// Encode returns the stored form of s. Equal sets have equal stored forms.
func (s Set) Encode() ([]byte, error) {
	out := storedSet{Version: version, Overrides: []stored{}}
	for id, o := range s {
		out.Overrides = append(out.Overrides, stored{
			Protocol: id.Service.Protocol.String(), Address: id.Service.Address.String(), Ports: id.Service.Ports.String(),
			Backend: id.Backend.String(), State: o.State, Weight: o.Weight, FileWeight: o.FileWeight, Deadline: o.Deadline, Since: o.Since,
		})
	}
	slices.SortFunc(out.Overrides, func(a, b stored) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Ports, b.Ports), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Backend, b.Backend))
	})
	data, err := json.MarshalIndent(out, "", "  ")
	return append(data, '\n'), err
}

// Parse reads the stored form. It returns every override that is valid, and an error that names
// each one that is not.
func Parse(data []byte) (Set, error) {
	all := make(Set)
	var in storedSet
	if err := json.Unmarshal(data, &in); err != nil {
		return all, err
	}
	if in.Version != version {
		return all, fmt.Errorf("it has version %d; this program knows %d", in.Version, version)
	}
	var errs []error
	for _, s := range in.Overrides {
		id, o, err := s.parse()
		if err != nil {
			errs = append(errs, fmt.Errorf("backend %s of %s %s:%s: %w", s.Backend, s.Protocol, s.Address, s.Ports, err))
			continue
		}
		all.Put(id, o)
	}
	return all, errors.Join(errs...)
}

func (s stored) parse() (id service.BackendID, o Override, err error) {
	key, err1 := service.ParseKey(s.Protocol, s.Address, s.Ports)
	backend, err2 := netip.ParseAddrPort(s.Backend)
	if err := errors.Join(err1, err2); err != nil {
		return id, o, err
	}
	switch s.State {
	case None, Drain, Disable:
	default:
		return id, o, fmt.Errorf("state %q must be one of %s, %s", s.State, Drain, Disable)
	}
	if s.Weight != nil && (*s.Weight < 0 || *s.Weight > MaxWeight) {
		return id, o, fmt.Errorf("weight %d must be from 0 to %d", *s.Weight, MaxWeight)
	}
	id = key.BackendID(service.BackendKey{Address: backend.Addr(), Port: backend.Port()})
	return id, Override{s.State, s.Weight, s.FileWeight, s.Deadline, s.Since}, nil
}
