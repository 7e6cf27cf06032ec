package decap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Decap is the program on one interface. Its methods may be called by any goroutine.
type Decap struct {
	objects  decapObjects
	attached link.Link
}

// Attach decapsulates what arrives at an interface for one of the outer addresses, which are the
// host's own, until Close or the end of the process. It works in the network namespace of the
// calling thread. An interface that has an XDP program already is an error.
func Attach(ifname string, addrs ...netip.Addr) (*Decap, error) {
	d := &Decap{}
	if err := d.attach(ifname, addrs); err != nil {
		d.Close()
		return nil, fmt.Errorf("decap: interface %s: %w", ifname, err)
	}
	return d, nil
}

func (d *Decap) attach(ifname string, addrs []netip.Addr) error {
	device, err := net.InterfaceByName(ifname)
	if err != nil {
		return err
	}
	if err := loadDecapObjects(&d.objects, nil); err != nil {
		return fmt.Errorf("loading the XDP program: %w", err)
	}
	if len(addrs) == 0 || len(addrs) > int(d.objects.Unwrapped.MaxEntries()) {
		return fmt.Errorf("%d tunnel addresses given: 1 to %d are possible", len(addrs), d.objects.Unwrapped.MaxEntries())
	}
	for _, a := range addrs {
		if err := d.objects.Unwrapped.Update(a.As16(), uint64(0), ebpf.UpdateNoExist); err != nil {
			return fmt.Errorf("tunnel address %s (given twice?): %w", a, err)
		}
	}
	// Last, so that no packet is seen before the addresses are there.
	d.attached, err = link.AttachXDP(link.XDPOptions{Program: d.objects.NetlabDecap, Interface: device.Index})
	if err != nil {
		return fmt.Errorf("attaching the XDP program: %w", err)
	}
	return nil
}

// Unwrapped returns the number of decapsulated packets to an outer address; 0 for an address that
// was not given to Attach.
func (d *Decap) Unwrapped(addr netip.Addr) (packets uint64, err error) {
	err = d.objects.Unwrapped.Lookup(addr.As16(), &packets)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	return packets, err
}

// Close removes the program from the interface. Not to be called twice.
func (d *Decap) Close() error {
	var errs []error
	if d.attached != nil {
		errs = append(errs, d.attached.Close())
	}
	return errors.Join(append(errs, d.objects.Close())...)
}
