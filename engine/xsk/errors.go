package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrModeUnsupported is in the chain of Open's error when the driver does not support the requested
// mode. The caller should try the next one: zero-copy, then native copy, then generic.
var ErrModeUnsupported = errors.New("mode not supported")

// OpenError describes why a socket could not be opened and what to do about it. Its chain holds the
// cause, in most cases a unix.Errno, and ErrModeUnsupported where that applies.
type OpenError struct {
	Ifname string
	Queue  int
	Step   string // system call or check that failed
	Text   string // what is wrong and how to fix it, for an operator
	Cause  error
	mode   bool
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("%s queue %d: %s (%s: %v)", e.Ifname, e.Queue, e.Text, e.Step, e.Cause)
}

// Unwrap returns the cause, and ErrModeUnsupported if the mode is not supported.
func (e *OpenError) Unwrap() []error {
	if e.mode {
		return []error{e.Cause, ErrModeUnsupported}
	}
	return []error{e.Cause}
}

// fail returns the OpenError for the errno of one step of opening.
func (cfg *Config) fail(step string, cause error) *OpenError {
	e := &OpenError{Ifname: cfg.Ifname, Queue: cfg.Queue, Step: step, Cause: cause}
	var errno unix.Errno
	errors.As(cause, &errno)
	switch {
	case errno == unix.EOPNOTSUPP, errno == unix.EINVAL && step == "bind" && cfg.Mode == ZeroCopy:
		e.mode = true
		e.Text = fmt.Sprintf("the driver does not support AF_XDP in %s mode here", cfg.Mode)
	case step == "register UMEM" && (errno == unix.ENOBUFS || errno == unix.ENOMEM || errno == unix.EPERM):
		e.Text = fmt.Sprintf("%d KiB of frames can't be locked in memory, the limit is %s: set LimitMEMLOCK=infinity "+
			"in the systemd unit (ulimit -l unlimited) or grant CAP_IPC_LOCK", len(cfg.UMEM.mem)>>10, lockLimit())
	default:
		e.Text = advice(cfg, errno)
	}
	return e
}

// advice returns the text for an errno that means the same in every step.
func advice(cfg *Config, errno unix.Errno) string {
	switch errno {
	case unix.EBUSY:
		return "another socket holds the queue: stop the process that has it, `ss -p --xdp` names it"
	case unix.ENODEV, unix.ENXIO:
		return "the interface is gone: it was deleted, renamed or moved to another network namespace"
	case unix.ENETDOWN:
		return fmt.Sprintf("the interface is down: `ip link set %s up`", cfg.Ifname)
	case unix.EINVAL:
		return "the kernel refuses the queue: check its number and the ring sizes"
	case unix.EPERM, unix.EACCES:
		return "not permitted: run as root or grant CAP_NET_RAW"
	case unix.ENOBUFS, unix.ENOMEM:
		return "the kernel has no memory for the socket: lower the number of frames or the ring sizes"
	case unix.EAFNOSUPPORT:
		return "this kernel has no AF_XDP: it needs CONFIG_XDP_SOCKETS"
	case unix.EMFILE, unix.ENFILE:
		return "too many open files: raise LimitNOFILE in the systemd unit (ulimit -n)"
	}
	return "unexpected error"
}

// lockLimit returns RLIMIT_MEMLOCK as text.
func lockLimit() string {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprintf("%d KiB", limit.Cur>>10)
}
