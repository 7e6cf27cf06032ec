package health

import (
	"context"
	"fmt"

	"github.com/miekg/dns"
)

// probeDNS sends one query over UDP and waits for the answer to it, ignoring other datagrams. A
// configured name must be answered without error. For the root any answer except "server failure"
// succeeds, because servers that know only their own zones refuse it.
func probeDNS(ctx context.Context, c Check) error {
	name, kind := dns.Fqdn(c.Query), dns.TypeA
	if name == "." {
		kind = dns.TypeNS
	}
	query := new(dns.Msg).SetQuestion(name, kind)
	packed, err := query.Pack()
	if err != nil {
		return fmt.Errorf("query for %q: %w", c.Query, err)
	}
	conn, err := dial(ctx, "udp", c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(packed); err != nil {
		return err
	}
	answer, err := readAnswer(conn, query)
	if err != nil {
		return err
	}
	refused := name == "." && answer.Rcode != dns.RcodeServerFailure
	if answer.Rcode != dns.RcodeSuccess && !refused {
		return fmt.Errorf("the answer to %s is %s", name, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

// readAnswer reads datagrams until one answers the query.
func readAnswer(conn *conn, query *dns.Msg) (*dns.Msg, error) {
	datagram := make([]byte, 4096)
	for {
		n, err := conn.Read(datagram)
		if err != nil {
			return nil, err
		}
		answer := new(dns.Msg)
		if answer.Unpack(datagram[:n]) == nil && answer.Response && answer.Id == query.Id &&
			len(answer.Question) == 1 && answer.Question[0] == query.Question[0] {
			return answer, nil
		}
	}
}
