package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// copyOwner gives file, which will replace path, the owner of path, if the daemon may do so.
func copyOwner(path string, file *os.File) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	was, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(was.Uid) == os.Geteuid() && int(was.Gid) == os.Getegid() {
		return nil
	}
	if err := file.Chown(int(was.Uid), int(was.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// trusted returns an error if other users can write to a directory: they could drain every backend,
// or make a rollback run a configuration of their own.
//
// The directory must belong to root or to the daemon's user. Only these two may write to it, or a
// group that the daemon is in: that is how root gives a directory to a daemon that is not root. A
// directory with the sticky bit may be writable by all users, because only the owner of a file can
// replace it there; directories below are checked by themselves.
func trusted(path string) error {
	// A symbolic link and its target are both checked.
	for _, stat := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
		info, err := stat(path)
		if err != nil {
			return err
		}
		of, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		if uid := int(of.Uid); uid != 0 && uid != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, who could change its content; only root or the daemon's user, %d, may own it: "+
				"chown %d %s, and restart", path, uid, os.Geteuid(), os.Geteuid(), path)
		}
		if info.Mode().Type() == fs.ModeSymlink {
			continue // its mode means nothing
		}
		switch perm := info.Mode().Perm(); {
		case perm&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
			return fmt.Errorf("%s has mode %04o, so every user on this machine can change its content: chmod o-w %s, and restart", path, perm, path)
		case perm&0o020 != 0 && !inGroup(int(of.Gid)):
			return fmt.Errorf("%s has mode %04o, so group %d, which the daemon is not in, can change its content: chmod g-w %s, and restart",
				path, perm, of.Gid, path)
		}
	}
	return nil
}

// inGroup reports whether the daemon is in a group. If the groups can't be listed, only the primary
// one counts.
func inGroup(gid int) bool {
	groups, _ := os.Getgroups()
	return gid == os.Getegid() || slices.Contains(groups, gid)
}
