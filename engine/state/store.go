package state

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

// Store is the directory of one daemon. If it can't be used, nothing fails: Store logs that once,
// and tries again with the next write. All methods but Err are for one goroutine at a time.
type Store struct {
	dir     string // "": nothing is stored
	refused bool   // other users may write to dir: it is not used until the next start
	log     *slog.Logger

	mu  sync.Mutex
	err error // of the last write; guarded by mu
}

// Open returns the store of the daemon that runs the configuration file: a directory of its own
// below dir, so that several daemons of one machine stay apart. An empty dir stores nothing.
func Open(dir, file string, log *slog.Logger) *Store {
	s := &Store{log: log}
	if dir == "" {
		return s
	}
	name := "memory"
	if file != "" {
		name = filepath.Base(file) + "-" + Digest(file)[:8]
	}
	s.dir = filepath.Join(dir, name)
	for _, path := range []string{dir, s.dir} {
		err := os.MkdirAll(path, 0o700) // a configuration may hold secrets
		if err == nil {
			err = trusted(path)
			s.refused = err != nil
		}
		if s.record(err); err != nil {
			break
		}
	}
	return s
}

// record remembers how a write ended, and logs when that changes.
func (s *Store) record(err error) {
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

// Err returns the error of the last write, or nil. Any goroutine may call it, and it does not wait
// for a write.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Dir returns the directory of this daemon; "" if nothing is stored.
func (s *Store) Dir() string { return s.dir }

// Save replaces the named file at once: a reader finds the old content or the new, after a crash
// too.
func (s *Store) Save(name string, data []byte) {
	if s.dir == "" || s.refused {
		return
	}
	err := os.MkdirAll(s.dir, 0o700)
	if err == nil {
		err = replace(filepath.Join(s.dir, name), data, 0o600)
	}
	s.record(err)
}

// Load returns the content of the named file, or nil if it can't be read.
func (s *Store) Load(name string) []byte {
	if s.dir == "" || s.refused {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a state file can't be read", "file", filepath.Join(s.dir, name), "error", err)
	}
	return data
}

// names lists the files with a suffix.
func (s *Store) names(suffix string) (names []string) {
	if s.dir == "" || s.refused {
		return nil
	}
	entries, _ := os.ReadDir(s.dir) // an unreadable directory counts as empty; Save reports why
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), suffix) && entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	return names
}

func (s *Store) remove(name string) {
	if s.dir != "" && !s.refused {
		_ = os.Remove(filepath.Join(s.dir, name)) // a file too many does no harm
	}
}

// SetAside renames a file that can't be understood, so that an operator can look at it.
func (s *Store) SetAside(name string, why error) {
	path := filepath.Join(s.dir, name)
	aside := path + ".broken"
	if err := os.Rename(path, aside); err != nil {
		aside = "nowhere: " + err.Error()
	}
	s.log.Warn("a state file is invalid and not used", "file", path, "error", why, "moved to", aside)
}

// replace writes a file so that it has the old content or the new, never a part, whatever crashes.
// An existing file keeps its mode and owner; a new one gets perm. If path is a symbolic link, the
// link stays and its target is replaced.
func replace(path string, data []byte, perm os.FileMode) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	dir := filepath.Dir(path)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(perm), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }() // removes the file if it was not renamed
	if err := copyOwner(path, file.File); err != nil {
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

// syncDir makes the new name of a file survive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// CanReplace returns the error that ReplaceConfig would fail with, as far as that can be found out
// without replacing the file.
func CanReplace(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".sluice-*")
	if err != nil {
		return err
	}
	return errors.Join(temporary.Close(), os.Remove(temporary.Name()))
}

// ReplaceConfig writes text to the configuration file at path. The former content stays beside it,
// as path.previous.
func ReplaceConfig(path, text string) error {
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

// Digest returns the SHA-256 of a text in hexadecimal.
func Digest(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:])
}
