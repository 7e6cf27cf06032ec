package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sluice/engine/api"
	"sluice/tools/netlab"
)

// ready is in the line that `sluice run` prints when packets flow.
const ready = "ready"

// stopGrace is how long the daemon may take to stop.
const stopGrace = 10 * time.Second

// Daemon is one `sluice run` on the balancer.
type Daemon struct {
	Process *netlab.Process
	Config  string // path of its file
	Socket  string // path of its control socket
	API     *api.Client

	bed    *Bed
	stderr *os.File // nil: Process.Output
	kept   bool     // Process is `sluice keep`
}

// Launch writes a configuration and starts the daemon with it, without waiting for anything. The
// API's socket is set by Launch.
func (b *Bed) Launch(cfg Config) (*Daemon, error) { return b.LaunchTo(cfg, nil) }

// LaunchTo is Launch for a daemon that logs to a file of the caller, not to Process.Output.
func (b *Bed) LaunchTo(cfg Config, stderr *os.File) (*Daemon, error) {
	d := b.daemon()
	d.stderr = stderr
	if err := d.Write(cfg); err != nil {
		return nil, err
	}
	return d, d.launch()
}

// daemon returns a Daemon that has not been started.
func (b *Bed) daemon() *Daemon {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.daemons++
	name := fmt.Sprint("sluice", b.daemons)
	socket := filepath.Join(b.dir, name+".sock")
	return &Daemon{Config: filepath.Join(b.dir, name+".toml"), Socket: socket, API: api.NewClient(socket), bed: b}
}

func (d *Daemon) launch() (err error) {
	cmd := exec.Command(d.bed.sluice, "run", "--config", d.Config)
	if d.kept {
		cmd = exec.Command(d.bed.sluice, "keep", "--stuck-after", "2s", "--", "run", "--config", d.Config)
	}
	if d.stderr != nil {
		cmd = exec.Command("/bin/sh", append([]string{"-c", `exec "$0" "$@" 2>&3 3>&-`}, cmd.Args...)...)
		cmd.ExtraFiles = []*os.File{d.stderr}
	}
	d.Process, err = d.bed.Balancer.Start(cmd)
	return err
}

// Start is Launch, and waits until the daemon is ready.
func (b *Bed) Start(ctx context.Context, cfg Config) (*Daemon, error) {
	d, err := b.Launch(cfg)
	if err != nil {
		return nil, err
	}
	return d, d.awaitReady(ctx)
}

// Keep is Start under `sluice keep`: Process is the keeper, and the daemon its child.
func (b *Bed) Keep(ctx context.Context, cfg Config) (*Daemon, error) {
	d := b.daemon()
	d.kept = true
	if err := errors.Join(d.Write(cfg), d.launch()); err != nil {
		return nil, err
	}
	return d, d.awaitReady(ctx)
}

// Child returns the process of a daemon that is kept.
func (d *Daemon) Child() (*os.Process, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.Process.PID()))
	if err != nil {
		return nil, err
	}
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		child := 0
		if _, err := fmt.Sscan(string(text), &child); err == nil {
			return os.FindProcess(child)
		}
	}
	return nil, errors.New("the keeper has no child")
}

// Restart starts the daemon again, from the same file, after it has ended.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.launch(); err != nil {
		return err
	}
	return d.awaitReady(ctx)
}

func (d *Daemon) awaitReady(ctx context.Context) error {
	if _, err := d.Process.WaitLine(ctx, ready); err != nil {
		return errors.Join(err, d.Process.Kill())
	}
	return nil
}

// Write replaces the daemon's file. It does not make the daemon reload.
func (d *Daemon) Write(cfg Config) error {
	cfg.API.Socket = d.Socket
	return os.WriteFile(d.Config, []byte(cfg.String()), 0o600)
}

// Stop makes the daemon stop and returns how it ended: nil after exit status 0.
func (d *Daemon) Stop() error {
	if err := d.Process.Stop(stopGrace); err != nil {
		return err
	}
	return d.Process.Wait()
}

// Result is the result of one command.
type Result struct {
	Code           int // exit status
	Stdout, Stderr string
}

// Upgrade has another program take the daemon's place. For a moment nothing answers, for longer on
// a slow machine.
func (d *Daemon) Upgrade(ctx context.Context, program string) (api.Upgrade, error) {
	client := api.NewClient(d.Socket)
	client.Timeout = time.Minute
	return client.Upgrade(ctx, api.UpgradeRequest{Binary: program})
}

// Program returns the path of the program.
func (b *Bed) Program() string { return b.sluice }

// Run runs the program on the balancer with any arguments.
func (b *Bed) Run(ctx context.Context, args ...string) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.sluice, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := b.Balancer.Start(cmd)
	if err != nil {
		return Result{}, err
	}
	err = p.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return Result{}, errors.Join(err, ctx.Err())
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, nil
}

// Verb runs a command that talks to the daemon. A failure of the command is an error.
func (d *Daemon) Verb(ctx context.Context, args ...string) (stdout string, err error) {
	r, err := d.bed.Run(ctx, append(args, "--socket", d.Socket)...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("sluice %v: exit status %d: %s", args, r.Code, r.Stderr)
	}
	return r.Stdout, err
}

// Quiet waits until no packet is in flight: the counters add up, and every frame is on a ring or
// free. The error is what was wrong at the last check.
func (d *Daemon) Quiet(ctx context.Context) (api.Stats, error) {
	for {
		stats, err := d.API.Stats(ctx)
		if api.Answered(err) != nil {
			return stats, err
		}
		again, err := d.API.Stats(ctx)
		if api.Answered(err) != nil {
			return again, err
		}
		wrong := outOfBalance(again)
		if stats.Rx == again.Rx && wrong == nil {
			return again, nil
		}
		select {
		case <-ctx.Done():
			return again, errors.Join(fmt.Errorf("the daemon does not come to rest: rx %d, then %d", stats.Rx, again.Rx), wrong, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// outOfBalance checks what must hold when no packet is in flight.
func outOfBalance(s api.Stats) error {
	if sum := s.Accounted(); s.Rx != sum {
		return fmt.Errorf("rx %d, but forwarded %d + replied %d + to the kernel %d + waiting %d + dropped %d + lost in a crash %d is %d", s.Rx, s.Forwarded, s.Replied, s.ToKernel, s.Waiting, s.Dropped(), s.LostInCrash, sum)
	}
	f := s.Frames
	if f.InFlight != 0 || f.Total != f.Free+f.Fill+f.Rx+f.Tx+f.Completion {
		return fmt.Errorf("frames are in flight, or lost: %+v", f)
	}
	return nil
}
