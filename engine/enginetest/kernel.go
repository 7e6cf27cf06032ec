package enginetest

import (
	"slices"
	"sync"

	"sluice/engine/platform"
)

var _ platform.Injector = (*Platform)(nil)

// kernel is the kernel that the engine gives packets to.
type kernel struct {
	mu      sync.Mutex
	packets [][]byte
	count   uint64
	refuse  error         // returned by Inject
	lost    error         // returned by Write
	held    chan struct{} // Write waits until it is closed; nil: it does not
	open    int           // devices
	made    int           // devices ever
}

// Inject implements platform.Injector.
func (p *Platform) Inject() (platform.Device, error) {
	k := &p.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return nil, k.refuse
	}
	k.open++
	k.made++
	return k, nil
}

// RefuseInjection makes Inject fail with err from now on; nil ends that.
func (p *Platform) RefuseInjection(err error) {
	p.kernel.mu.Lock()
	defer p.kernel.mu.Unlock()
	p.kernel.refuse = err
}

// LoseKernel makes the kernel refuse every packet with err from now on; nil ends that.
func (p *Platform) LoseKernel(err error) {
	p.kernel.mu.Lock()
	defer p.kernel.mu.Unlock()
	p.kernel.lost = err
}

// HoldKernel makes the kernel take no packet until release is called.
func (p *Platform) HoldKernel() (release func()) {
	held := make(chan struct{})
	p.kernel.mu.Lock()
	defer p.kernel.mu.Unlock()
	p.kernel.held = held
	return func() {
		p.kernel.mu.Lock()
		defer p.kernel.mu.Unlock()
		p.kernel.held = nil
		close(held)
	}
}

// Kernel returns the packets that the kernel was given since the last call.
func (p *Platform) Kernel() [][]byte {
	p.kernel.mu.Lock()
	defer p.kernel.mu.Unlock()
	all := p.kernel.packets
	p.kernel.packets = nil
	return all
}

// Injecting returns how many devices there are for packets to the kernel, and how many were made.
func (p *Platform) Injecting() (open, made int) {
	p.kernel.mu.Lock()
	defer p.kernel.mu.Unlock()
	return p.kernel.open, p.kernel.made
}

// written returns how many packets the kernel has taken.
func (k *kernel) written() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// Name implements platform.Device.
func (k *kernel) Name() string { return "memory" }

// Write implements platform.Device.
func (k *kernel) Write(packet []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if held := k.held; held != nil {
		k.mu.Unlock()
		<-held
		k.mu.Lock()
	}
	if k.lost != nil {
		return 0, k.lost
	}
	k.packets, k.count = append(k.packets, slices.Clone(packet)), k.count+1
	return len(packet), nil
}

// Close implements platform.Device.
func (k *kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open--
	return nil
}
