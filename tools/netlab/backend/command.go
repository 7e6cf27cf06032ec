package backend

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// ReadyLine is in the line that a backend's process prints when all its sockets listen.
const ReadyLine = "backend ready"

// childEnv tells a program that it was started by Command. It is removed again before anything
// runs.
const childEnv = "NETLAB_BACKEND_CHILD"

// Command is the running program as a backend. RunIfChild must be the first thing that program
// does.
func Command(cfg Config) *exec.Cmd {
	args := []string{"-name", cfg.Name}
	for _, f := range []struct {
		flag  string
		addrs []string
	}{{"-http", cfg.HTTP}, {"-echo", cfg.Echo}, {"-udp", cfg.UDP}} {
		if len(f.addrs) > 0 {
			args = append(args, f.flag, strings.Join(f.addrs, ","))
		}
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	return cmd
}

// RunIfChild is a whole backend program, which it ends with os.Exit, in a process started by
// Command, and does nothing in any other.
func RunIfChild() {
	if os.Getenv(childEnv) == "" {
		return
	}
	os.Unsetenv(childEnv)
	os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
}

// Main is the program: it serves until SIGTERM or SIGINT. It returns the exit status, 0 if it was
// asked to end, 1 if it cannot serve, 2 for wrong arguments.
func Main(args []string, stdout, stderr io.Writer) int {
	var cfg Config
	flags := flag.NewFlagSet("netlab-backend", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.Name, "name", "", "what the backend calls itself")
	list := func(name, serves string, addrs *[]string) {
		flags.Func(name, "serve "+serves+" on `addresses`, separated by commas, like 10.0.0.11:80,[fd00::11]:80 or :80", func(s string) error {
			*addrs = append(*addrs, strings.Split(s, ",")...)
			return nil
		})
	}
	list("http", "HTTP", &cfg.HTTP)
	list("echo", "TCP echo", &cfg.Echo)
	list("udp", "UDP", &cfg.UDP)
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "netlab-backend: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	b, err := Start(cfg)
	if err != nil {
		fmt.Fprintln(stderr, "netlab-backend:", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s name=%s addresses=%v\n", ReadyLine, cfg.Name, b.Addrs())
	<-ctx.Done()
	b.Close()
	return 0
}
