package conn

import "sluice/pipeline/packet"

// State is the state of a connection. TCP has the states and timeouts of IPVS
// (net/netfilter/ipvs/ip_vs_proto_tcp.c), Idle and Ended; UDP has one.
type State uint8

// The states: those of IPVS in its order, then three that IPVS has not. No packet leads in or
// out of the last two.
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
	SynChallenged // SYN_RECV: the backend has answered the SYN by an ACK without SYN
	SynRepeated   // SYN_RECV: the client has repeated its SYN after that
	UDP
	Idle       // was ESTABLISHED and has expired: its ends are reset
	Ended      // CLOSE: its backend was evicted: its ends are reset
	StateCount // length of arrays indexed by State
)

var stateNames = [StateCount]string{
	"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT",
	"CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK", "SYN_RECV", "SYN_RECV", "UDP", "IDLE", "CLOSE",
}

// String returns IPVS's name of the state.
func (s State) String() string { return stateNames[s] }

// Active reports whether connections in this state count as active.
func (s State) Active() bool {
	const active = 1<<Established | 1<<SynSent | 1<<SynRecv | 1<<SynAck | 1<<SynChallenged | 1<<SynRepeated
	return active>>s&1 != 0
}

// Ending reports whether connections in this state have ended, and only wait for what is late.
func (s State) Ending() bool {
	const ending = 1<<TimeWait | 1<<Close | 1<<Idle | 1<<Ended
	return ending>>s&1 != 0
}

// EndedIn reports whether the connection would have ended in the state: the state says so, or the
// client has sent FIN and nothing a second or more after its first packet (tun, dr: Proven). Such a
// FIN_WAIT is what remains of a short connection of which the backend's FIN is not seen.
func (c *Conn) EndedIn(s State) bool {
	return s.Ending() || s == FinWait && c.Flags&(NoOutput|Proven) == NoOutput
}

// Ended reports whether the connection has ended.
func (c *Conn) Ended() bool { return c.EndedIn(c.State) }

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

	SynChallenged: 60_000,
	SynRepeated:   60_000,

	UDP:   300_000,
	Idle:  10_000,
	Ended: 10_000,
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

// row lists the next state by the present one, None to SynRepeated in order.
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
	sCH = SynChallenged
	sRP = SynRepeated
)

var stay = row{sNO, sES, sSS, sSR, sFW, sTW, sCL, sCW, sLA, sLI, sSA, sCH, sRP}

// transitions are those of IPVS with these differences. A segment with none of the flags leaves the
// state as it is; IPVS closes the connection.
//
// Anyone can forge a client's SYN or FIN, so where the backend's answer is seen, that answer
// changes the state: a client's FIN does not (see Confirmed), and its SYN in FIN_WAIT does not
// until the SYN-ACK. Where it is not seen (InputOnly), a client's ACK after RST returns to
// ESTABLISHED: after a genuine RST a client sends none. FIN never leads to TIME_WAIT there, in
// which a SYN would open another connection.
//
// A backend's ACK in SYN_RECV does not lead to ESTABLISHED; only the client's ACK does (RFC 9293,
// 3.10.7.4). A backend sends an ACK without SYN there if it still has the client's port in
// TIME_WAIT, or an old connection from it, and got a SYN with an unexpected number: the client's
// kernel answers with RST, and repeats the SYN some milliseconds later. That is still the same
// connection, about to open. SynChallenged and SynRepeated keep in mind that it happened, once;
// apart from that they are SYN_RECV.
var transitions = [directionCount][eventCount]row{
	Input: {
		//      NO   ES   SS   SR   FW   TW   CL   CW   LA   LI   SA   CH   RP
		evSYN:  {sSR, sES, sES, sSR, sFW, sSR, sSR, sSR, sSR, sSR, sSR, sRP, sRP},
		evFIN:  {sCL, sES, sSS, sES, sTW, sTW, sCL, sCW, sLA, sLI, sES, sES, sES},
		evACK:  {sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES, sES, sES},
		evRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sSR, sCH, sRP},
		evNone: stay,
	},
	Output: {
		evSYN: {sSS, sES, sSS, sSR, sSR, sSS, sSS, sSS, sSS, sLI, sSR, sSR, sSR},
		evFIN: {sTW, sFW, sSS, sTW, sFW, sTW, sCL, sTW, sLA, sLI, sTW, sTW, sTW},
		// SR: not IPVS's, see transitions
		evACK:  {sES, sES, sSS, sCH, sFW, sTW, sCL, sCW, sLA, sES, sES, sCH, sRP},
		evRST:  {sCL, sCL, sSS, sCL, sCL, sTW, sCL, sCL, sCL, sCL, sCL, sCL, sCL},
		evNone: stay,
	},
	InputOnly: {
		evSYN:  {sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR},
		evFIN:  {sCL, sFW, sSS, sFW, sFW, sTW, sCL, sCW, sLA, sLI, sFW, sFW, sFW},
		evACK:  {sES, sES, sSS, sES, sFW, sTW, sES, sCW, sCL, sLI, sES, sES, sES},
		evRST:  {sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL, sSR, sSR},
		evNone: stay,
	},
}

// Next returns the state after a TCP segment with these flags in that direction. UDP stays UDP, and
// so do Idle and Ended.
func (s State) Next(d Direction, tcpFlags uint8) State {
	if s >= UDP {
		return s
	}
	return transitions[d][events[tcpFlags&0x1f]][s]
}

// Confirmed returns the state to enter after a TCP segment with SYN or FIN in that direction, for
// which Next has returned next. It notes a client's FIN: the connection stays ESTABLISHED until the
// backend sends FIN, too, which a genuine FIN leads to and a forged one does not. A SYN ends the
// doubt about a RST: a connection may be about to open.
func (c *Conn) Confirmed(next State, d Direction, tcpFlags uint8) State {
	switch events[tcpFlags&0x1f] {
	case evSYN:
		if c.Flags &^= Doubted; d == Output {
			c.Flags &^= ClientFIN
		}
	case evFIN:
		switch {
		case d == Input && next == Established:
			c.Flags |= ClientFIN
		case d == Output && c.State == Established && c.Flags&ClientFIN != 0:
			return TimeWait
		}
	}
	return next
}
