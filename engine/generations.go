package engine

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/conf"
	"sluice/engine/api"
)

// keptGenerations is how many configurations are kept, the running one included.
const keptGenerations = 10

// generation is a configuration that ran at some time: a value, never changed.
type generation struct {
	number int
	loaded time.Time
	cause  string // start, reload, apply or rollback
	text   string
	sha    string // of text
}

// generations are the last of them, in memory and in the store. They belong to whoever holds
// Engine.changing.
type generations struct {
	store *store
	log   *slog.Logger
	kept  []generation // by number
	last  int          // number given last
}

// The name of a stored generation says all but its text: 000012-20261123T172015Z-reload.toml.
const (
	generationSuffix = ".toml"
	generationTime   = "20060102T150405Z"
)

func (g generation) file() string {
	return fmt.Sprintf("%06d-%s-%s%s", g.number, g.loaded.UTC().Format(generationTime), g.cause, generationSuffix)
}

func parseGenerationFile(name string) (g generation, err error) {
	fields := strings.SplitN(strings.TrimSuffix(name, generationSuffix), "-", 3)
	if len(fields) != 3 {
		return g, fmt.Errorf("its name is not NUMBER-TIME-CAUSE%s", generationSuffix)
	}
	if g.number, err = strconv.Atoi(fields[0]); err != nil || g.number < 1 {
		return g, fmt.Errorf("its name begins with %q, not with a number from 1", fields[0])
	}
	g.cause = fields[2]
	g.loaded, err = time.Parse(generationTime, fields[1])
	return g, err
}

// loadGenerations finds those of earlier lives of the daemon.
func loadGenerations(s *store, log *slog.Logger) *generations {
	all := &generations{store: s, log: log}
	for _, name := range s.names(generationSuffix) {
		g, err := parseGenerationFile(name)
		if err != nil {
			s.setAside(name, err)
			continue
		}
		text := s.load(name)
		if text == nil {
			continue
		}
		g.text, g.sha = string(text), shaOf(string(text))
		all.kept = append(all.kept, g)
		all.last = max(all.last, g.number)
	}
	slices.SortFunc(all.kept, func(a, b generation) int { return cmp.Compare(a.number, b.number) })
	all.trim()
	return all
}

// next makes a generation of a text, or finds the latest one if that has the same. It is not kept
// yet.
func (all *generations) next(text, cause string) generation {
	sha := shaOf(text)
	if n := len(all.kept); n > 0 && all.kept[n-1].sha == sha {
		return all.kept[n-1]
	}
	all.last++
	return generation{number: all.last, loaded: time.Now(), cause: cause, text: text, sha: sha}
}

// keep makes a generation outlive the daemon.
func (all *generations) keep(g generation) {
	if n := len(all.kept); n > 0 && all.kept[n-1].number == g.number {
		return
	}
	all.kept = append(all.kept, g)
	all.store.save(g.file(), []byte(g.text))
	all.trim()
}

func (all *generations) trim() {
	for len(all.kept) > keptGenerations {
		all.store.remove(all.kept[0].file())
		all.kept = all.kept[1:]
	}
}

// find gives a generation by its number; 0 is the latest before running that has another text.
func (all *generations) find(number int, running generation) (generation, error) {
	for _, g := range slices.Backward(all.kept) {
		if number == g.number || number == 0 && g.number < running.number && g.sha != running.sha {
			return g, nil
		}
	}
	if number == 0 {
		return generation{}, fmt.Errorf("there is no configuration before the one that runs: generation %d is the first", running.number)
	}
	var numbers []string
	for _, g := range all.kept {
		numbers = append(numbers, strconv.Itoa(g.number))
	}
	return generation{}, fmt.Errorf("generation %d is not kept: there is %s", number, strings.Join(numbers, ", "))
}

func (all *generations) list(running int) []api.Generation {
	out := make([]api.Generation, 0, len(all.kept))
	for _, g := range slices.Backward(all.kept) {
		out = append(out, api.Generation{Number: g.number, Loaded: g.loaded.Round(0), Cause: g.cause, SHA256: g.sha, Running: g.number == running})
	}
	return out
}

// recall takes up what earlier lives of the daemon left in the store. Called by start, before there
// are tables.
func (e *Engine) recall(cfg *conf.Config) {
	e.store = openStore(cfg.Engine.StateDir, e.opts.File, e.log)
	e.generations = loadGenerations(e.store, e.log)
	var yielded []string
	e.overrides, yielded = e.loadOverrides().Yield(cfg)
	for _, text := range yielded {
		e.log.Info(text)
	}
	for _, o := range e.listOverrides() {
		e.log.Info("set at run time and still in force", "event", "override_restored", "service", o.Service, "backend", o.Backend, "state", o.State, "configured", o.Configured)
	}
	e.keep(e.generations.next(cfg.Text, "start"))
	e.keepLast()
	e.noteReload(nil)
}
