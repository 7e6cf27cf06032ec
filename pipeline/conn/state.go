package conn

import "sluice/pipeline/packet"

// State is the state of a connection. TCP has the states and timeouts of IPVS
// (net/netfilter/ipvs/ip_vs_proto_tcp.c), and Idle; UDP has one.
type State uint8

// The states, in IPVS's order, with UDP and Idle behind.
const (
	StateNone State = iota
	Established
	SynSent
	SynRecv
	FinWait
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	SynAck
	UDP
	Idle       // was ESTABLISHED and has expired: its ends are reset. No packet leads in or out
	StateCount // length of arrays indexed by State
)

var stateNames = [StateCount]string{
	"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT",
	"CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK", "UDP", "IDLE",
}

// String returns IPVS's name of the state.
func (s State) String() string { return stateNames[s] }

// Active reports whether connections in this state count as active.
func (s State) Active() bool {
	return s == Established || s == SynSent || s == SynRecv || s == SynAck
}

// DefaultTimeoutsMs are IPVS's timeouts in milliseconds. Each packet of the connection restarts the
// timer.
var DefaultTimeoutsMs = [StateCount]uint32{
	StateNone:   2_000,
	Established: 900_000,
	SynSent:     120_000,
	SynRecv:     60_000,
	FinWait:     120_000,
	TimeWait:    120_000,
	Close:       10_000,
	CloseWait:   60_000,
	LastAck:     30_000,
	Listen:      120_000,
	SynAck:      120_000,
	UDP:         300_000,
	Idle:        10_000,
}

// Direction is the direction of a packet, and whether both directions are seen.
type Direction uint8

// The directions. A connection of mode tun or dr only has InputOnly.
const (
	Input     Direction = iota // from the client; replies pass Sluice too
	Output                     // from the backend
	InputOnly                  // from the client; replies bypass Sluice
	directionCount
)

// event is the flag of a segment that drives the state machine: the first one set of RST, SYN, FIN,
// ACK.
type event uint8

const (
	evSYN event = iota
	evFIN
	evACK
	evRST
	evNone
	eventCount
)

// events maps the low five flag bits to the event.
var events = func() (e [32]event) {
	for flags := range e {
		switch {
		case flags&packet.RST != 0:
			e[flags] = evRST
		case flags&packet.SYN != 0:
			e[flags] = evSYN
		case flags&packet.FIN != 0:
			e[flags] = evFIN
		case flags&packet.ACK != 0:
			e[flags] = evACK
		default:
			e[flags] = evNone
		}
	}
	return e
}()

// row lists the next state by the present one, None to SynAck in order.
type row [UDP]State

const (
	sNO = StateNone
	sES = Established
	sSS = SynSent
	sSR = SynRecv
	sFW = FinWait
	sTW = TimeWait
	sCL = Close
	sCW = CloseWait
	sLA = LastAck
	sLI = Listen
	sSA = SynAck
)

var stay = row{sNO, sES, sSS, sSR, sFW, sTW, sCL, sCW, sLA, sLI, sSA}

// transitions are those of IPVS with two differences. A segment with none of the flags leaves the
// state as it is; IPVS closes the connection. And a backend's ACK in SYN_RECV leaves the state as
// it is; in IPVS it leads to ESTABLISHED, but only the client's ACK does (RFC 9293, 3.10.7.4). A
// backend sends an ACK without SYN there if it still has the client's port in TIME_WAIT and got a
// SYN with an unexpected number: the client's kernel answers with RST, and repeats the SYN some
// milliseconds later. That is still the same connection, about to open.
var transitions = [directionCount][eventCount]row{
	Input: {
		//      NO   ES   SS   SR   FW   TW   CL   CW   LA   LI   SA
		evSYN:  {sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR},
		evFIN:  {sCL, sCW, sSS, sTW, sTW, sTW, sCL, sCW, sLA, sLI, sTW},
		evACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
		evRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sSR},
		evNone: stay,
	},
	Output: {
		evSYN: {sSS, sES, sSS, sSR, sSS, sSS, sSS, sSS, sSS, sLI, sSR},
		evFIN: {sTW, sFW, sSS, sTW, sFW, sTW, sCL, sTW, sLA, sLI, sTW},
		// SR: not IPVS's, see transitions
		evACK:  {sES, sES, sSS, sSR, sFW, sTW, sCL, sCW, sLA, sES, sES},
		evRST:  {sCL, sCL, sSS, sCL, sCL, sTW, sCL, sCL, sCL, sCL, sCL},
		evNone: stay,
	},
	InputOnly: {
		evSYN:  {sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR},
		evFIN:  {sCL, sFW, sSS, sTW, sFW, sTW, sCL, sCW, sLA, sLI, sTW},
		evACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
		evRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		evNone: stay,
	},
}

// Next returns the state after a TCP segment with these flags in that direction. UDP stays UDP, and
// Idle stays Idle.
func (s State) Next(d Direction, tcpFlags uint8) State {
	if s >= UDP {
		return s
	}
	return transitions[d][events[tcpFlags&0x1f]][s]
}
