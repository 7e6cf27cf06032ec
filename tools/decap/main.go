// Command decap decapsulates IP-in-IP at an interface until SIGINT or SIGTERM. A backend of mode
// tun runs it if the kernel has no ipip module. Package tools/netlab/decap has the details.
//
//	decap eth0 10.2.0.11
package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"sluice/tools/netlab/decap"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: decap INTERFACE ADDRESS...   unwraps what arrives for these addresses of this host")
		os.Exit(2)
	}
	if err := unwrap(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func unwrap(ifname string, texts []string) error {
	var addresses []netip.Addr
	for _, text := range texts {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("decap: %w", err)
		}
		addresses = append(addresses, address)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	program, err := decap.Attach(ifname, addresses...)
	if err != nil {
		return err
	}
	fmt.Printf("decap ready: %s %v\n", ifname, addresses)
	<-stop
	return program.Close()
}
