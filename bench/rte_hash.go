package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sluice/engine/cpu"
)

// rteHashSource measures the bare look-up of DPDK's rte_hash.
//
//go:embed testdata/rte_hash.c
var rteHashSource []byte

// rteHashTimeout bounds the compiler and the measurement.
const rteHashTimeout = 5 * time.Minute

// rteHash measures DPDK's rte_hash for comparison: ns per look-up, without a packet. Without the
// library or a compiler it prints why there are no rows.
func rteHash(match *regexp.Regexp, rounds int) (results []result, err error) {
	args := []string{"0", strconv.Itoa(rounds)}
	for _, flows := range []int{1_000, 100_000, 1_000_000, 10_000_000} {
		if match.MatchString(fmt.Sprintf("rte_hash/dpdk/4/%d", flows)) {
			args = append(args, strconv.Itoa(flows))
		}
	}
	if len(args) == 2 {
		return nil, nil
	}
	cpus, err := cpu.Allowed()
	if err != nil {
		return nil, err
	}
	args[0] = strconv.Itoa(cpus[len(cpus)-1])
	dir, err := os.MkdirTemp("", "sluice-bench")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), rteHashTimeout)
	defer cancel()
	program, err := buildRTEHash(ctx, dir)
	if err == nil {
		results, err = runRTEHash(ctx, program, args)
	}
	if err != nil {
		fmt.Printf("rte_hash: skipped: %v\n", err)
		return nil, nil
	}
	return results, nil
}

// buildRTEHash compiles the program.
func buildRTEHash(ctx context.Context, dir string) (program string, err error) {
	flags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "--libs", "libdpdk").Output()
	if err != nil {
		return "", errors.New("no DPDK here: apt-get install libdpdk-dev gcc pkg-config")
	}
	source := filepath.Join(dir, "rte_hash.c")
	if err := os.WriteFile(source, rteHashSource, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "rte_hash")
	args := append([]string{"-O3", "-march=native", "-o", program, source}, strings.Fields(string(flags))...)
	if out, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc: %w: %s", err, out)
	}
	return program, nil
}

// runRTEHash runs the program and reads its lines: flows, and ns per look-up of each round.
func runRTEHash(ctx context.Context, program string, args []string) (results []result, err error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return nil, fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("a line without figures: %q", line)
		}
		r := result{Name: "rte_hash", Mode: "dpdk", Family: 4}
		if r.Flows, err = strconv.Atoi(fields[0]); err != nil {
			return nil, err
		}
		for _, field := range fields[1:] {
			ns, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return nil, err
			}
			r.ns = append(r.ns, ns)
		}
		r.conclude()
		results = append(results, r)
	}
	return results, nil
}
