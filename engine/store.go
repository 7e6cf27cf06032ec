package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// store is a directory for what outlives the daemon: overrides and former configurations. A store
// that can't be written is no reason to stop anything: it says so once, and tries again with the
// next write. It belongs to whoever holds Engine.changing.
type store struct {
	dir     string // "": everything is forgotten
	refused bool   // the directory is not ours alone: nothing is read from it or written to it until the next start
	log     *slog.Logger

	mu  sync.Mutex
	err error // of the last write; guarded by mu, so that Status need not wait for a change that goes on
}

// openStore takes a directory of its own under dir for the daemon of that configuration file, so
// that several daemons of one box stay apart.
func openStore(dir, file string, log *slog.Logger) *store {
	s := &store{log: log}
	if dir == "" {
		return s
	}
	name := "memory"
	if file != "" {
		name = filepath.Base(file) + "-" + shaOf(file)[:8]
	}
	s.dir = filepath.Join(dir, name)
	for _, path := range []string{dir, s.dir} {
		err := os.MkdirAll(path, 0o700) // a configuration may hold secrets
		if err == nil {
			err = oursAlone(path)
			s.refused = err != nil
		}
		if s.note(err); err != nil {
			break
		}
	}
	return s
}

// note remembers how a write ended, and logs when that changes.
func (s *store) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && s.err == nil:
		s.log.Warn("the state directory can't be used: overrides and former configurations are kept in memory only", "event", "state_failed",
			"dir", s.dir, "error", err)
	case err == nil && s.err != nil:
		s.log.Info("the state directory can be used again", "event", "state_back", "dir", s.dir)
	}
	s.err = err
}

// failure is why the last write failed; nil: it did not.
func (s *store) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// save replaces a file at once: whoever reads it, after a crash too, finds the old content or the
// new.
func (s *store) save(name string, data []byte) {
	if s.dir == "" || s.refused {
		return
	}
	err := os.MkdirAll(s.dir, 0o700)
	if err == nil {
		err = replace(filepath.Join(s.dir, name), data, 0o600)
	}
	s.note(err)
}

// load gives a file's content; nil if there is none that can be read.
func (s *store) load(name string) []byte {
	if s.dir == "" || s.refused {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a state file can't be read", "file", filepath.Join(s.dir, name), "error", err)
	}
	return data
}

// names lists the files that end so.
func (s *store) names(suffix string) (names []string) {
	if s.dir == "" || s.refused {
		return nil
	}
	entries, _ := os.ReadDir(s.dir) // what can't be read is not there; save says why
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), suffix) && entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	return names
}

func (s *store) remove(name string) {
	if s.dir != "" && !s.refused {
		_ = os.Remove(filepath.Join(s.dir, name)) // one too many does no harm
	}
}

// setAside keeps a file that makes no sense for whoever wants to look at it.
func (s *store) setAside(name string, why error) {
	path := filepath.Join(s.dir, name)
	aside := path + ".broken"
	if err := os.Rename(path, aside); err != nil {
		aside = "nowhere: " + err.Error()
	}
	s.log.Warn("a state file makes no sense and is not used", "file", path, "error", why, "moved to", aside)
}

// replace writes a file so that it has the old content or the new, never a part, whatever crashes.
// The file keeps its mode and owner; perm is for one that was not there. A link stays, and what it
// points to is replaced.
func replace(path string, data []byte, perm os.FileMode) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	dir := filepath.Dir(path)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(perm), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }() // removes it if it did not take the place
	if err := keepOwner(path, file.File); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the new name of a file outlive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// canReplace says whether replace would work, without doing it.
func canReplace(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".sluice-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// replaceConfig puts a configuration in the place of the daemon's file; what was there stays beside
// it.
func replaceConfig(path, text string) error {
	former, err := os.ReadFile(path)
	switch {
	case err == nil && string(former) == text:
		return nil
	case err == nil:
		err = replace(path+".previous", former, 0o600)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err == nil {
		err = replace(path, []byte(text), 0o600)
	}
	if err != nil {
		return fmt.Errorf("%s can't be replaced: %w", path, err)
	}
	return nil
}

func shaOf(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:])
}
