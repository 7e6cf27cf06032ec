package filter_test

import (
	"strings"
	"testing"

	"sluice/engine/filter"
	"sluice/pipeline/packet/packettest"
)

func TestMatch(t *testing.T) {
	tcp := packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").Frame()
	udp := packettest.UDP("192.0.2.7:40000", "198.51.100.10:53").Frame()
	six := packettest.TCP("[2001:db8::7]:40000", "[2001:db8::10]:80").Frame()
	icmp := packettest.ICMP("192.0.2.7", "198.51.100.10", 3, 4, 1400, packettest.TCP("198.51.100.10:80", "192.0.2.7:40000").IP()).Frame()
	type want struct{ tcp, udp, six, icmp bool }
	for expression, w := range map[string]want{
		"":                                {true, true, true, true},
		"tcp":                             {tcp: true, six: true},
		"udp":                             {udp: true},
		"ip":                              {tcp: true, udp: true, icmp: true},
		"ip6":                             {six: true},
		"icmp":                            {icmp: true},
		"host 192.0.2.7":                  {tcp: true, udp: true, icmp: true},
		"src host 192.0.2.7":              {tcp: true, udp: true, icmp: true},
		"dst host 192.0.2.7":              {},
		"host 2001:db8::7":                {six: true},
		"net 192.0.2.0/24":                {tcp: true, udp: true, icmp: true},
		"port 80":                         {tcp: true, six: true},
		"tcp port 80":                     {tcp: true, six: true},
		"dst port 53":                     {udp: true},
		"tcp port 80 or udp port 53":      {tcp: true, six: true, udp: true},
		"host 192.0.2.7 and port 80":      {tcp: true},
		"host 192.0.2.7 and tcp port 80":  {tcp: true},
		"not tcp":                         {udp: true, icmp: true},
		"ip and not udp":                  {tcp: true, icmp: true},
		"portrange 50-60":                 {udp: true},
		"(tcp or udp) and host 192.0.2.7": {tcp: true, udp: true},
		"host 192.0.2.7 and (port 80 or port 53)":        {tcp: true, udp: true},
		"tcp and dst host 198.51.100.10 and dst port 80": {tcp: true},
		"src port 40000 and dst port 80":                 {tcp: true, six: true},
		"port 80 or 53":                                  {true, true, true, false},
		"src 192.0.2.7 and not port 80":                  {udp: true, icmp: true},
		"tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-ack":   {tcp: true, six: true},
		"tcp[13] & 2 != 0":                               {},
		"ip[9] = 17":                                     {udp: true},
		"ip[16:4] == 0xc633640a":                         {true, true, false, true},
		"ip proto 6":                                     {tcp: true},
		"icmp[icmptype] = 3 and icmp[icmpcode] = 4":      {icmp: true},
		"udp or tcp and port 80":                         {tcp: true, six: true},
		"!udp && !icmp":                                  {tcp: true, six: true},
		"greater 70":                                     {six: true, icmp: true},
		"less 50":                                        {udp: true},
		"vlan":                                           {},
		"arp":                                            {},
	} {
		f, err := filter.Compile(expression)
		if err != nil {
			t.Errorf("%q: %v", expression, err)
			continue
		}
		if got := (want{f.Match(new(filter.Scratch), tcp, len(tcp)), f.Match(new(filter.Scratch), udp, len(udp)), f.Match(new(filter.Scratch), six, len(six)), f.Match(new(filter.Scratch), icmp, len(icmp))}); got != w {
			t.Errorf("%q: %+v, want %+v", expression, got, w)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, expression := range []string{"nonsense", "port", "host", "tcp port eighty", "(tcp", "and", "tcp)", "tcp udp", "host 1.2.3", "port 70000", "port http", "tcp[13", "tcp[13] & 2", "ip[1:3] = 2", "not", "src or", "icmp port 80", "proto 6", "src and dst host 1.2.3.4", "ether host 02:00:00:00:00:01", strings.Repeat("(", 1000) + "tcp",
		"]:", "tcp]:80", "tcp[13]]: & 2 != 0", ":", "[:", "tcp[[0:1]:1] = 1", strings.Repeat("tcp or ", filter.MaxBytes/7) + "tcp"} {
		if f, err := filter.Compile(expression); err == nil {
			t.Errorf("%q compiled: %+v", expression, f)
		}
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	f, err := filter.Compile("tcp port 80 and host 192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	frame := packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").Frame()
	var scratch filter.Scratch
	if n := testing.AllocsPerRun(100, func() { f.Match(&scratch, frame, 99); f.Match(&scratch, frame[:30], 99); f.Match(&scratch, nil, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCompile checks that every expression ends in a filter or an error, and that no frame causes a
// panic.
func FuzzCompile(f *testing.F) {
	frame := packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").VLAN(7).Frame()
	for _, seed := range []string{"tcp port 80", "not (ip6 or vlan 7) and tcp[13:2] & 0xff != 3", "portrange 1-2 or 5", "]:", "tcp]: or port 80", strings.Repeat("ip or ", filter.MaxBytes/7) + "ip"} {
		f.Add(seed, len(frame))
	}
	f.Fuzz(func(t *testing.T, text string, cut int) {
		c, err := filter.Compile(text)
		if err == nil && cut >= 0 {
			c.Match(new(filter.Scratch), frame[:min(cut, len(frame))], len(frame))
		}
	})
}
