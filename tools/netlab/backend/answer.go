package backend

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Answer is how a backend describes a request.
type Answer struct {
	Name   string         // of the backend
	Client netip.AddrPort // client address that it sees
	Server netip.AddrPort // its own address of the connection
	Bytes  int64          // uploads: bytes received
	SHA256 string         // uploads: their hash in hex, "" for everything else
}

// String returns the answer line, without a newline.
func (a Answer) String() string {
	s := fmt.Sprintf("name=%s client=%s server=%s", a.Name, a.Client, a.Server)
	if a.SHA256 != "" {
		s += fmt.Sprintf(" bytes=%d sha256=%s", a.Bytes, a.SHA256)
	}
	return s
}

// ParseAnswer is the inverse of String; it also accepts a line with its newline.
func ParseAnswer(line string) (Answer, error) {
	var a Answer
	var errs []error
	for _, field := range strings.Fields(line) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "name":
			a.Name = value
		case "client":
			a.Client, err = netip.ParseAddrPort(value)
		case "server":
			a.Server, err = netip.ParseAddrPort(value)
		case "bytes":
			a.Bytes, err = strconv.ParseInt(value, 10, 64)
		case "sha256":
			a.SHA256 = value
		default:
			err = fmt.Errorf("unknown field %q", field)
		}
		errs = append(errs, err)
	}
	if a.Name == "" || !a.Client.IsValid() || !a.Server.IsValid() {
		errs = append(errs, errors.New("name, client or server is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return Answer{}, fmt.Errorf("backend: %q is not an answer line: %w", line, err)
	}
	return a, nil
}

func legalName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
