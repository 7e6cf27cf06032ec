package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"sluice/cmd/cli"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/tx"
)

// trafficFlags select what is sent.
type trafficFlags struct {
	traffic     tx.Traffic
	protocol    string
	source      string
	destination string
	size        string
}

func (f *trafficFlags) add(flags *pflag.FlagSet) {
	spec, model := &f.traffic.Spec, &f.traffic.Model
	flags.StringVar(&f.protocol, "protocol", "udp", "udp or tcp")
	flags.StringVar(&f.source, "source", "", "source ADDRESSES[:PORTS]: an address, FIRST-LAST or a prefix; [..] around IPv6\n(default 198.18.0.0/16 or [2001:2::/64], ports 1024-65535)")
	flags.StringVar(&f.destination, "destination", "", "destination ADDRESSES:PORTS in the same form; flow i goes to the i-th of them")
	flags.Var(newValue(&spec.SourceMAC, "", "MAC", port.ParseMAC), "smac", "source MAC address (default the interface's)")
	flags.Var(newValue(&spec.DestinationMAC, "", "MAC", port.ParseMAC), "dmac", "destination MAC address (default the next hop's)")
	flags.StringVar(&f.size, "size", "64", "frame size in bytes with the 4 of the FCS, as RFC 2544 counts: one, several as 64,512,1518, or imix")
	flags.Var(newValue(&model.Kind, model.Kind.String(), "MODEL", flow.ParseKind), "model", "how the next packet's flow is chosen: round, uniform, zipf, syn (flood), churn (connections)")
	flags.Uint32Var(&model.Flows, "flows", 1, "different flows; of churn: different connections")
	flags.Float64Var(&model.Exponent, "zipf-exponent", 1, "of zipf: flow i is sent in proportion to 1/i^EXPONENT")
	flags.Uint32Var(&model.Concurrent, "concurrent", 1, "of churn: connections that are open at the same time")
	flags.Uint32Var(&model.Packets, "packets", 10, "of churn: packets of a connection, with SYN, ACK and FIN")
	flags.Uint64Var(&model.Seed, "seed", 1, "of what is random: the same seed sends the same packets")
}

// Networks for benchmarks: RFC 2544 (with RFC 6890) and RFC 5180.
const (
	benchmark4 = "198.18.0.0/16"
	benchmark6 = "[2001:2::/64]"
)

// read returns the traffic that the flags select.
func (f *trafficFlags) read() (tx.Traffic, error) {
	t := f.traffic
	spec := &t.Spec
	switch f.protocol {
	case "udp", "tcp":
		spec.TCP = f.protocol == "tcp"
	default:
		return t, cli.Usage(fmt.Errorf("--protocol %q is not one of udp, tcp", f.protocol))
	}
	var err error
	if f.destination == "" {
		return t, cli.Usage(fmt.Errorf("--destination is missing: where to send to, as 198.51.100.10:80"))
	}
	if spec.Destination, err = flow.ParseRange(f.destination); err != nil {
		return t, cli.Usage(fmt.Errorf("--destination %w", err))
	}
	source := f.source
	if source == "" && spec.Destination.Is6() {
		source = benchmark6
	} else if source == "" {
		source = benchmark4
	}
	if spec.Source, err = flow.ParseSource(source); err != nil {
		return t, cli.Usage(fmt.Errorf("--source %w", err))
	}
	if spec.Sizes, err = parseSizes(f.size, *spec); err != nil {
		return t, cli.Usage(fmt.Errorf("--size %w", err))
	}
	if err := t.Check(); err != nil {
		return t, cli.Usage(err)
	}
	return t, nil
}

// parseSizes reads frame sizes with the frame check sequence and returns them without.
func parseSizes(text string, spec frame.Spec) (sizes []int, err error) {
	if text == "imix" {
		return spec.IMIX(), nil
	}
	for part := range strings.SplitSeq(text, ",") {
		size, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("%q: use bytes, several of them with commas, or imix", text)
		}
		sizes = append(sizes, size-frame.FCSBytes)
	}
	return sizes, nil
}
