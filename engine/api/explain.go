package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sluice/pipeline/service"
)

// Diagnostics is the part of Control that shows how packets are handled and why.
type Diagnostics interface {
	Explainer
	Tracer
}

// Explainer predicts how a packet would be handled.
type Explainer interface {
	// Explain changes nothing: no connection, no counter, no scheduler's position.
	Explain(ctx context.Context, q Tuple) (Explanation, error)
}

// Tuple identifies a packet by its ends. A client's port may be 0: any.
type Tuple struct {
	Protocol service.Protocol
	From, To netip.AddrPort
	Bytes    int // of the IP packet; 0: the minimum
}

// String returns the form that ParseTuple accepts.
func (t Tuple) String() string {
	from := t.From.String()
	if t.From.Port() == 0 {
		from = t.From.Addr().String()
	}
	return fmt.Sprintf("%s %s -> %s", t.Protocol, from, t.To)
}

// ParseTuple parses "tcp 203.0.113.5:4000 198.51.100.10:80", with or without -> or > between the
// ends, IPv6 in brackets, in one or several words. The first end may lack its port.
func ParseTuple(words ...string) (Tuple, error) {
	var fields []string
	for _, field := range strings.Fields(strings.NewReplacer("->", " ", ">", " ", "→", " ").Replace(strings.Join(words, " "))) {
		fields = append(fields, strings.TrimSuffix(field, ","))
	}
	if len(fields) != 3 {
		return Tuple{}, fmt.Errorf("invalid tuple %q: must be PROTOCOL FROM TO, for example tcp 203.0.113.5:4000 198.51.100.10:80", strings.Join(words, " "))
	}
	protocol, err := service.ParseProtocol(strings.ToLower(fields[0]))
	if err != nil {
		return Tuple{}, err
	}
	from, err := parseEnd(fields[1])
	if err != nil {
		return Tuple{}, err
	}
	to, err := parseEnd(fields[2])
	if err != nil {
		return Tuple{}, err
	}
	t := Tuple{Protocol: protocol, From: from, To: to}
	switch {
	case to.Port() == 0:
		return Tuple{}, fmt.Errorf("%s has no port: add the destination port, for example %s", fields[2], netip.AddrPortFrom(to.Addr(), 80))
	case from.Addr().Is4() != to.Addr().Is4():
		return Tuple{}, fmt.Errorf("%s and %s are of different families: a packet has one", from.Addr(), to.Addr())
	}
	return t, nil
}

// parseEnd parses an address with or without a port.
func parseEnd(text string) (netip.AddrPort, error) {
	if end, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(end.Addr().Unmap().WithZone(""), end.Port()), nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(addr.Unmap().WithZone(""), 0), nil
	}
	return netip.AddrPort{}, fmt.Errorf("%q must be address:port or an address; IPv6 with a port is written [2001:db8::1]:80", text)
}

// Step is one step in the handling of a packet, or one thing that was examined.
type Step struct {
	Stage   string `json:"stage"`
	Text    string `json:"text"`
	Problem bool   `json:"problem,omitempty"` // this is, or may be, the cause of a failure
}

// Explanation is how a packet would be handled and why.
type Explanation struct {
	Tuple      string `json:"tuple"`
	Steps      []Step `json:"steps"`
	Verdict    string `json:"verdict"`           // the result, in a sentence
	OK         bool   `json:"ok"`                // it is forwarded, and no step is a problem
	Service    string `json:"service,omitempty"` // its name
	Backend    string `json:"backend,omitempty"` // address:port
	Connection *Conn  `json:"connection,omitempty"`
	Frame      []byte `json:"frame,omitempty"` // the frame that would be sent
}

const pathExplain = "/v1/explain" // GET ?tuple= &bytes=

// Explain implements Explainer.
func (c *Client) Explain(ctx context.Context, q Tuple) (e Explanation, err error) {
	values := url.Values{"tuple": {q.String()}}
	if q.Bytes != 0 {
		values.Set("bytes", strconv.Itoa(q.Bytes))
	}
	return e, c.do(ctx, http.MethodGet, pathExplain+"?"+values.Encode(), nil, &e)
}

type explainInput struct {
	Tuple string `query:"tuple" required:"true" doc:"PROTOCOL FROM TO" example:"tcp 203.0.113.5:4000 198.51.100.10:80"`
	Bytes int    `query:"bytes" minimum:"0" doc:"of the IP packet; 0: the minimum"`
}

func (s *Server) routeExplain() {
	route(s, huma.Operation{
		OperationID: "explain", Method: http.MethodGet, Path: pathExplain,
		Summary: "How a packet would be handled and why; nothing changes",
	}, func(ctx context.Context, in *explainInput) (Explanation, error) {
		q, err := ParseTuple(in.Tuple)
		if err != nil {
			return Explanation{}, badRequest{err.Error()}
		}
		q.Bytes = in.Bytes
		var e Explanation
		err = s.scan(ctx, func() (err error) { e, err = s.control.Explain(ctx, q); return })
		return e, err
	})
}
