// Package takeover lets the connections of a daemon outlive its process, also if that is killed.
// The next process reads the tables of the one before and inserts what it finds into its own.
//
// # What is read
//
// A platform.Keeper has the memory of the former process's tables. What their numbers meant is in
// its Numbers, which the former process kept whenever they changed. Services and backends are found
// again by their keys, SNAT sources by their addresses. So the new process may have another
// configuration, other numbers, more or fewer workers, or tables of another size.
//
// # What is believed
//
// The former process may have been killed in the middle of anything. An entry is taken over if its
// service and its backend are configured, its backend's address agrees with its number, and its
// time is not over. Everything that can be derived, such as counts and the ports in use, is made
// again by inserting. An entry that was half written is dropped; the table is not.
//
// # What is lost
//
// Connections of removed backends, those that were being reset, and fullnat connections on a port
// that is no worker's any more. A fullnat connection on a port that another worker has now goes to
// that worker, which gets its client's packets from the others: see pipeline.Misplaced.
//
// The package is called before the workers run, and starts no goroutine. It knows no Engine.
package takeover

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"sluice/engine/health"
	"sluice/engine/platform"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Numbers is what the numbers in a process's connection tables mean.
type Numbers struct {
	Layout   string // of the entries, see Layout
	ZeroNs   int64  // CLOCK_MONOTONIC at the beginning of the process's time
	Workers  int
	Seed     flow.Seed
	Services map[uint32]service.Key
	Backends map[uint32]tables.Backend
	Sources  map[uint8]netip.Addr
}

// numbersName is the name under which Numbers are kept.
const numbersName = platform.Complete

// numbersOf returns the numbers of tables.
func numbersOf(r *tables.Result, workers int, seed flow.Seed) *Numbers {
	n := &Numbers{
		Layout: Layout(), ZeroNs: zeroNs(), Workers: workers, Seed: seed,
		Services: make(map[uint32]service.Key), Backends: make(map[uint32]tables.Backend), Sources: make(map[uint8]netip.Addr),
	}
	for number, of := range r.Services() {
		if of.Key.Address.IsValid() {
			n.Services[uint32(number)] = of.Key
		}
	}
	for number, b := range r.Backends() {
		if b.ID.Backend.Address.IsValid() {
			n.Backends[uint32(number)] = b
		}
	}
	for number, source := range r.Tables.Sources {
		if source.Ports != nil {
			n.Sources[uint8(number)] = source.Addr.Netip()
		}
	}
	return n
}

// healthName is the name under which the states of backends that are down are kept.
const healthName = "health"

// keep keeps a value for the next process.
func keep(k platform.Keeper, name string, value any) error {
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(value); err != nil {
		return err
	}
	return k.Keep(name, data.Bytes())
}

// formerHealth returns the states of the backends that were down in the former process. What cannot
// be read is not known.
func formerHealth(k platform.Keeper) (down map[service.BackendID]health.State) {
	_ = gob.NewDecoder(bytes.NewReader(k.Former()[healthName])).Decode(&down)
	return down
}

// Counts is how many connections and templates of the former process were taken over, and how many
// were not although their time was not over; and how many frames it had in its hands.
type Counts struct {
	Restored, Lost int
	Frames         uint64
}

// restore gives the workers the connections of the former process, which left n.
func restore(k platform.Keeper, n *Numbers, now *tables.Result, workers *worker.Set, seed *flow.Seed) Counts {
	r := restorer{
		former: k.Former(), numbers: n, tables: now.Tables, workers: workers, seed: seed,
		nowMs: worker.NowMs(), aheadMs: uint32((zeroNs() - n.ZeroNs) / 1e6),
	}
	r.renumber(now.State)
	r.all(true)
	r.all(false)
	return r.Counts
}

// former returns the Numbers of the former process, nil if there was none.
func former(k platform.Keeper) (*Numbers, error) {
	data := k.Former()[numbersName]
	if data == nil {
		return nil, nil
	}
	n := new(Numbers)
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(n); err != nil {
		return nil, fmt.Errorf("what the former process left cannot be read: %w", err)
	}
	return n, nil
}

// check returns the records that are to be read in place of the tables of the former process, nil
// if the tables can be read. The error says why neither can.
func (n *Numbers) check(k platform.Keeper) (records []byte, err error) {
	if n.Layout == Layout() {
		return nil, nil
	}
	if records = k.Former()[recordsName]; len(records) == 0 {
		return nil, errors.New("it was of a version with other connection tables, and did not stop for this one (sluice upgrade)")
	}
	return records, nil
}

// restorer is the state of restore.
type restorer struct {
	Counts
	former  map[string][]byte
	numbers *Numbers
	tables  *pipeline.Tables
	workers *worker.Set
	seed    *flow.Seed
	nowMs   uint32
	aheadMs uint32 // by how much the former process's time is ahead of this one's

	// numbers of the former process -> this one's
	services, backends map[uint32]uint32
	sources            map[uint8]uint8
}

// renumber finds the numbers that services, backends and sources have now.
func (r *restorer) renumber(s *tables.State) {
	r.services, r.backends, r.sources = make(map[uint32]uint32), make(map[uint32]uint32), make(map[uint8]uint8)
	services, backends := numbersNow(s)
	for former, key := range r.numbers.Services {
		if now, ok := services[key]; ok {
			r.services[former] = now
		}
	}
	for former, b := range r.numbers.Backends {
		if now, ok := backends[b]; ok {
			r.backends[former] = now
		}
	}
	for former, addr := range r.numbers.Sources {
		for now, source := range r.tables.Sources {
			if source.Ports != nil && source.Addr == packet.AddrFrom(addr) {
				r.sources[former] = uint8(now)
			}
		}
	}
}

// numbersNow returns the numbers of services and backends.
func numbersNow(s *tables.State) (services map[service.Key]uint32, backends map[tables.Backend]uint32) {
	services, backends = make(map[service.Key]uint32), make(map[tables.Backend]uint32)
	for number, of := range s.Services() {
		services[of.Key] = uint32(number)
	}
	for number, b := range s.Backends() {
		backends[b] = uint32(number)
	}
	return services, backends
}

// all restores all templates, or all connections.
func (r *restorer) all(templates bool) {
	for w := range r.numbers.Workers {
		for _, family := range []int{4, 6} {
			conn.Entries(family, r.former[worker.TableName(w, family)], func(e *conn.Entry) {
				if e.IsTemplate() == templates {
					r.one(w, e)
				}
			})
		}
	}
}

// one restores a connection of a former worker.
func (r *restorer) one(former int, e *conn.Entry) {
	e.Expires -= r.aheadMs
	if e.Expired(r.nowMs) || e.State >= conn.StateCount {
		return
	}
	if !r.translate(e) || !r.insert(former, e) {
		r.Lost++
		return
	}
	r.Restored++
}

// translate gives the entry this process's numbers.
func (r *restorer) translate(e *conn.Entry) bool {
	service, known := r.services[e.Service()]
	backend, has := r.backends[e.Backend]
	if !known || !has || e.State == conn.Idle || e.State == conn.Ended {
		return false
	}
	e.SetService(service)
	e.Backend = backend
	if e.Flags&conn.Translated != 0 {
		source, ok := r.sources[e.Source]
		e.Source = source
		return ok
	}
	return true
}

func (r *restorer) insert(former int, e *conn.Entry) bool {
	w, misplaced, ok := r.tables.RestoredBy(e, former, r.numbers.Workers, len(r.workers.All), r.seed)
	return ok && r.workers.Restore(w, misplaced, e, r.nowMs)
}

// zeroNs returns CLOCK_MONOTONIC at the beginning of the workers' time.
func zeroNs() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return now.Nano() - worker.NowNs()
}

// meaning is the hash of the tables that a fixed script fills: it changes with the hash of clients,
// the place of entries, the numbers of states and the owners of flows. TestGoldenEstate compares
// it, and says when to change it.
const meaning = "0be42c3f4d124bd92ed917e626509e36efcb5d99a94d5c9817c4b5c39ae9c9b7"

// Layout identifies the form and the meaning of entries: it differs if a byte of an example does,
// or the order of states and flags, or what a fixed script makes of them. A process with another
// one needs records.
func Layout() string {
	h := sha256.New()
	fmt.Fprintln(h, meaning)
	h.Write(conn.Example())
	for s := range conn.StateCount {
		fmt.Fprintln(h, s)
	}
	fmt.Fprintln(h, runtime.GOARCH, conn.IsUDP, conn.NoOutput, conn.HasTemplate, conn.SeenReply, conn.Translated, conn.Proven)
	return hex.EncodeToString(h.Sum(nil)) + layoutSuffix
}

// layoutSuffix makes the layout another one, in a program that is linked for a test.
var layoutSuffix string
