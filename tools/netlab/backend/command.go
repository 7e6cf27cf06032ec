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

// childEnv marks a process that Command started. It is removed before anything else runs.
const childEnv = "NETLAB_BACKEND_CHILD"

// Command returns a command that runs this program as a backend. The program has to call RunIfChild
// first.
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

// RunIfChild runs a backend and ends with os.Exit in a process that Command started. In any other
// process it does nothing.
func RunIfChild() {
	if os.Getenv(childEnv) == "" {
		return
	}
	os.Unsetenv(childEnv)
	os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
}

// Main is the backend as a program: it serves until SIGTERM or SIGINT and returns the exit status,
// 0 after a signal, 1 if it cannot serve, 2 for wrong arguments.
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
