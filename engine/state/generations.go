package state

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxGenerations is how many configurations are stored, the running one included.
const maxGenerations = 10

// Generation is a configuration that ran at some time. It never changes.
type Generation struct {
	Number int
	Loaded time.Time
	Cause  string // start, reload, apply or rollback
	Text   string
	SHA256 string // of Text
}

// Generations are the last configurations that ran, in memory and in the store. They are for one
// goroutine at a time.
type Generations struct {
	store  *Store
	stored []Generation // by number
	last   int          // the number assigned last
}

// The file name of a stored generation holds everything but the text:
// 000012-20261123T172015Z-reload.toml.
const (
	generationSuffix = ".toml"
	generationTime   = "20060102T150405Z"
)

func (g Generation) file() string {
	return fmt.Sprintf("%06d-%s-%s%s", g.Number, g.Loaded.UTC().Format(generationTime), g.Cause, generationSuffix)
}

func parseGenerationFile(name string) (g Generation, err error) {
	fields := strings.SplitN(strings.TrimSuffix(name, generationSuffix), "-", 3)
	if len(fields) != 3 {
		return g, fmt.Errorf("its name is not NUMBER-TIME-CAUSE%s", generationSuffix)
	}
	if g.Number, err = strconv.Atoi(fields[0]); err != nil || g.Number < 1 {
		return g, fmt.Errorf("its name begins with %q, not with a number from 1", fields[0])
	}
	g.Cause = fields[2]
	g.Loaded, err = time.Parse(generationTime, fields[1])
	return g, err
}

// LoadGenerations reads the generations of earlier runs of the daemon.
func LoadGenerations(s *Store) *Generations {
	all := &Generations{store: s}
	for _, name := range s.names(generationSuffix) {
		g, err := parseGenerationFile(name)
		if err != nil {
			s.SetAside(name, err)
			continue
		}
		text := s.Load(name)
		if text == nil {
			continue
		}
		g.Text, g.SHA256 = string(text), Digest(string(text))
		all.stored = append(all.stored, g)
		all.last = max(all.last, g.Number)
	}
	slices.SortFunc(all.stored, func(a, b Generation) int { return cmp.Compare(a.Number, b.Number) })
	all.trim()
	return all
}

// Next returns a new generation with that text, or the latest stored one if it has the same text.
// Add stores it.
func (all *Generations) Next(text, cause string) Generation {
	sha := Digest(text)
	if n := len(all.stored); n > 0 && all.stored[n-1].SHA256 == sha {
		return all.stored[n-1]
	}
	all.last++
	return Generation{Number: all.last, Loaded: time.Now(), Cause: cause, Text: text, SHA256: sha}
}

// Add stores a generation, unless it is the latest already, and removes the oldest when there are
// too many.
func (all *Generations) Add(g Generation) {
	if n := len(all.stored); n > 0 && all.stored[n-1].Number == g.Number {
		return
	}
	all.stored = append(all.stored, g)
	all.store.Save(g.file(), []byte(g.Text))
	all.trim()
}

func (all *Generations) trim() {
	for len(all.stored) > maxGenerations {
		all.store.remove(all.stored[0].file())
		all.stored = all.stored[1:]
	}
}

// Find returns a generation by its number; 0 is the latest before running that has another text.
func (all *Generations) Find(number int, running Generation) (Generation, error) {
	for _, g := range slices.Backward(all.stored) {
		if number == g.Number || number == 0 && g.Number < running.Number && g.SHA256 != running.SHA256 {
			return g, nil
		}
	}
	if number == 0 {
		return Generation{}, fmt.Errorf("generation %d is the first one: there is no earlier configuration", running.Number)
	}
	var numbers []string
	for _, g := range all.stored {
		numbers = append(numbers, strconv.Itoa(g.Number))
	}
	return Generation{}, fmt.Errorf("generation %d is not stored: must be one of %s", number, strings.Join(numbers, ", "))
}

// List returns the stored generations, the latest first.
func (all *Generations) List() []Generation {
	out := slices.Clone(all.stored)
	slices.Reverse(out)
	return out
}
