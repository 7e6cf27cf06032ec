package steer

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"

	"sluice/pipeline/service"
)

// Rules are what the decision about a frame depends on. Order and duplicates do not matter. A key
// is one end of a packet: an address, ports and a protocol.
type Rules struct {
	Services []service.Key // destinations: the services
	Replies  []service.Key // sources: the NAT backends
	Pools    []service.Key // destinations: the SNAT pools, where fullnat receives its replies
	Probed   []service.Key // sources: the tun and dr services that Detour's interface probes
	Probers  []service.Key // destinations: where those probes are sent from, on addresses in Locals
	Locals   []netip.Addr  // all addresses of this host, and the broadcast addresses of its subnets
	VIPs     []netip.Addr  // services' addresses that this host neither has nor has a host route to
	Stations []Station     // what frames to this host are addressed to, a port's own address first
}

// Station is a MAC address of this host in one VLAN of a port.
type Station struct {
	Ifindex int // of the port
	MAC     [6]byte
	VLAN    uint16 // identifier; 0: untagged, or tagged with a priority only
}

// endpointBits is the size of a steerEndpoint: ENDPOINT_BITS in steer.c.
const endpointBits = 160

// proberSide is PROBER_SIDE in steer.c.
const proberSide = 255

// table holds the map entries for Rules. The value of ports, ranges and
// stations is always 1.
type table struct {
	addresses map[steerAddress]steerRole
	ports     map[steerEndpoint]uint8
	ranges    map[steerBlock]uint8
	stations  map[steerStation]uint8
	own       [ownStations]steerStation
}

// ownStations is OWN_STATIONS in steer.c.
const ownStations = 256

func newTable() table {
	return table{
		addresses: map[steerAddress]steerRole{},
		ports:     map[steerEndpoint]uint8{},
		ranges:    map[steerBlock]uint8{},
		stations:  map[steerStation]uint8{},
	}
}

// compile turns the rules into map entries. The error names the first rule that no packet could
// match.
func (r Rules) compile() (table, error) {
	t := newTable()
	for _, kind := range []struct {
		name string
		side steerRole
		keys []service.Key
	}{
		{"service", steerRoleTO_SHIFT, r.Services},
		{"reply", steerRoleFROM_SHIFT, r.Replies},
		{"pool", steerRoleTO_SHIFT, r.Pools},
		{"probed", steerRolePROBED_SHIFT, r.Probed},
	} {
		for _, key := range kind.keys {
			if err := check(key); err != nil {
				return table{}, fmt.Errorf("steer: %s rule %s: %w", kind.name, key, err)
			}
			t.add(kind.side, key)
		}
	}
	for _, key := range r.Probers {
		if err := check(key); err != nil {
			return table{}, fmt.Errorf("steer: prober rule %s: %w", key, err)
		}
		t.addProber(key)
	}
	for _, a := range r.Locals {
		t.addresses[addressOf(a)] |= steerRoleLOCAL
	}
	for _, a := range r.VIPs {
		t.addresses[addressOf(a)] |= steerRoleVIP
	}
	for _, s := range r.Stations {
		t.addStation(s)
	}
	return t, nil
}

// check returns an error if no packet can match the key.
func check(key service.Key) error {
	switch {
	case !key.Address.IsValid() || key.Address.IsUnspecified() || key.Address.IsMulticast():
		return fmt.Errorf("%s is not the address of a host", key.Address)
	case key.Protocol != service.TCP && key.Protocol != service.UDP:
		return fmt.Errorf("the protocol must be tcp or udp")
	case key.Ports.Last == 0 || key.Ports.Last < key.Ports.First:
		return fmt.Errorf("ports must be 1-65535, a range in rising order, or all (0-65535)")
	}
	return nil
}

func (t *table) add(side steerRole, key service.Key) {
	var what steerRole
	end := endpointOf(side, key)
	switch {
	case key.Ports == service.AnyPort:
		what |= steerRoleANY
	case key.Ports.Single():
		what |= steerRoleEXACT
		t.ports[end] = 1
	default:
		what |= steerRoleRANGE
		t.addRange(end, key.Ports)
	}
	t.addresses[end.Address] |= what << shift(side, key.Protocol)
}

// addStation adds a station. The first one of a port is the one to be found fast.
func (t *table) addStation(s Station) {
	key := steerStation{Ifindex: uint32(s.Ifindex), Vlan: s.VLAN}
	for i := range key.Mac {
		key.Mac[i] = binary.NativeEndian.Uint16(s.MAC[2*i:])
	}
	t.stations[key] = 1
	if own := &t.own[s.Ifindex%ownStations]; *own == (steerStation{}) {
		*own = key
	}
}

// addProber adds the ports that probes are sent from.
func (t *table) addProber(key service.Key) {
	end := endpointOf(proberSide, key)
	t.addRange(end, key.Ports)
	t.addresses[end.Address] |= steerRolePROBER
}

// addRange adds ports with the address, side and protocol of an end.
func (t *table) addRange(end steerEndpoint, ports service.Ports) {
	for first, size := range blocks(ports) {
		end.Port = wirePort(first)
		t.ranges[steerBlock{Bits: uint32(endpointBits - size), First: end}] = 1
	}
}

// shift returns the position of the four bits for a side and a protocol in an address's roles.
func shift(side steerRole, p service.Protocol) steerRole {
	if p == service.UDP {
		return side + steerRoleUDP_SHIFT
	}
	return side
}

// blocks splits a port range into the fewest blocks that are 2^size ports long and start at a
// multiple of that.
func blocks(p service.Ports) iter.Seq2[uint16, int] {
	return func(yield func(first uint16, size int) bool) {
		for first, end := uint32(p.First), uint32(p.Last)+1; first < end; {
			size := min(bits.TrailingZeros32(first|1<<16), bits.Len32(end-first)-1)
			if !yield(uint16(first), size) {
				return
			}
			first += 1 << size
		}
	}
}

// addressOf returns an address as the maps have it: 16 bytes in wire order, IPv4 as
// ::ffff:a.b.c.d.
func addressOf(a netip.Addr) (out steerAddress) {
	b := a.As16()
	for i := range out.Word {
		out.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

func endpointOf(side steerRole, key service.Key) steerEndpoint {
	return steerEndpoint{
		Address:  addressOf(key.Address),
		Side:     uint8(side),
		Protocol: uint8(key.Protocol),
		Port:     wirePort(key.Ports.First),
	}
}

// wirePort returns the number that has in memory the bytes of the port on the wire.
func wirePort(port uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
}
