package tx

import "github.com/cilium/ebpf"

// Program returns the XDP program of a Live sender.
func Program(s Sender) *ebpf.Program { return s.(*live).objects.PktgenLive }
