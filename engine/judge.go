package engine

import (
	"maps"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/pipeline/service"
)

// wards is what the engine knows of its services' health from one table to the next. Guarded by
// Engine.mu.
type wards struct {
	protections map[service.Key]*health.Protection
	frozen      map[service.Key]bool               // by an operator
	frozenAll   bool                               // by an operator, further services included
	held        map[service.BackendID]health.State // of frozen services: as they were
	starting    map[service.BackendID]time.Time    // backends whose weight grows, and since when
	shown       map[service.BackendID]shown        // as listed
	alarms      map[alarmName]alarm                // raised
	step        *time.Timer                        // looks at health again when some weight has to grow
}

func newWards(look func()) wards {
	step := time.AfterFunc(time.Hour, look)
	step.Stop()
	return wards{
		protections: make(map[service.Key]*health.Protection),
		frozen:      make(map[service.Key]bool),
		held:        make(map[service.BackendID]health.State),
		starting:    make(map[service.BackendID]time.Time),
		shown:       make(map[service.BackendID]shown),
		alarms:      make(map[alarmName]alarm),
		step:        step,
	}
}

// judgement is what health makes of a configuration: what tables and listings go by.
type judgement struct {
	states    map[service.BackendID]health.State // as decided, checked backends only
	down      map[service.BackendID]bool         // out of the choice: what is down and not protected, and idle sorry servers
	evict     map[service.BackendID]bool         // of these, whose connections end
	protected map[service.BackendID]string       // down but in the choice, and why
	sorry     map[service.Key]bool               // services whose sorry server is in the choice
	shares    map[service.BackendID]int          // of starting backends: how many weightSteps of their weight they have
	next      time.Time                          // when a share grows; zero: never
	alarms    map[alarmName]string
}

// sameTables says that both lead to equal tables. The other may be nil.
func (j *judgement) sameTables(other *judgement) bool {
	return other != nil && maps.Equal(j.down, other.down) && maps.Equal(j.evict, other.evict) &&
		maps.Equal(j.sorry, other.sorry) && maps.Equal(j.shares, other.shares)
}

// judge decides which backends of the configuration take part. The caller holds mu.
func (e *Engine) judge(cfg *conf.Config, now time.Time) *judgement {
	j := &judgement{
		states:    e.statesNow(cfg),
		down:      make(map[service.BackendID]bool),
		evict:     make(map[service.BackendID]bool),
		protected: make(map[service.BackendID]string),
		sorry:     make(map[service.Key]bool),
		shares:    make(map[service.BackendID]int),
		alarms:    make(map[alarmName]string),
	}
	for i := range cfg.Services {
		e.judgeService(j, &cfg.Services[i])
	}
	e.grow(j, cfg, now)
	if e.direct != nil {
		j.alarms[alarmName{kind: api.AlarmDirect}] = directText(e.direct)
	}
	if e.wards.frozenAll {
		j.alarms[alarmName{kind: api.AlarmFrozen}] = "the health of all services is frozen: checks change nothing until `sluice health thaw`"
	}
	return j
}

// statesNow gives what the checks say, or said when an operator froze it. The caller holds mu.
func (e *Engine) statesNow(cfg *conf.Config) map[service.BackendID]health.State {
	states := e.prober.States()
	for i := range cfg.Services {
		s := &cfg.Services[i]
		frozen := e.wards.isFrozen(s.Key)
		for _, b := range s.Backends {
			id := s.Key.BackendID(b.Key)
			live, checked := states[id]
			held, has := e.wards.held[id]
			switch {
			case !frozen || !checked:
				delete(e.wards.held, id)
			case !has:
				e.wards.held[id] = live
			default:
				held.Checked, held.Took, held.Last = live.Checked, live.Took, live.Last
				states[id] = held
			}
		}
	}
	return states
}

// judgeService decides for one service. The caller holds mu.
func (e *Engine) judgeService(j *judgement, s *conf.Service) {
	var members []health.Member
	for _, b := range s.Backends {
		id := s.Key.BackendID(b.Key)
		if e.overrides.Weight(id, b.Weight) == 0 {
			continue
		}
		state, checked := j.states[id]
		if !checked {
			state.Up = true
		}
		members = append(members, health.Member{ID: id, State: state})
	}
	verdict := e.protection(s.Key).Judge(members, health.Rule{
		MinHealthy: s.Health.MinHealthy, Sorry: s.Sorry != nil, AtOnce: s.Health.Interval + s.Health.Timeout,
	})
	for _, b := range s.Backends {
		name := s.Key.BackendID(b.Key)
		state, checked := j.states[name]
		switch {
		case !checked || state.Up:
		case verdict.Protected[name]:
			j.protected[name] = verdict.Why
		case verdict.Out[name] || !verdict.AtOnce: // without weight: nobody counts on it
			j.down[name] = true
			j.evict[name] = s.OnDown == conf.OnDownReset
		}
	}
	if s.Sorry != nil {
		j.sorry[s.Key] = len(members) == 0 || verdict.NoneUp
		if !j.sorry[s.Key] {
			j.down[s.Key.BackendID(s.Sorry.Key)] = true
		}
	}
	e.alarmsOf(j, s, verdict)
}

// protection is the service's memory of what it has protected. The caller holds mu.
func (e *Engine) protection(key service.Key) *health.Protection {
	p := e.wards.protections[key]
	if p == nil {
		p = new(health.Protection)
		e.wards.protections[key] = p
	}
	return p
}

// settle takes note of a judgement that the tables now follow. The caller holds mu.
func (e *Engine) settle(cfg *conf.Config, j *judgement) {
	e.judged = j
	e.noteShown(cfg, j)
	e.noteAlarms(cfg, j)
	if !j.next.IsZero() {
		e.wards.step.Reset(max(time.Until(j.next), stepPause))
	}
}
