package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// anyPort is a UDP service in mode nat on all ports, which are its backends' too.
func anyPort() svc {
	return svc{name: "any", port: "any", proto: "udp", backends: []string{"10.0.0.11", "10.0.0.12"}}
}

// query is a packet that a backend sends of its own accord.
func query(n int) packettest.Packet {
	return packettest.UDP("10.0.0.11:5353", client(n)).Payload([]byte("query"))
}

// alarmOf waits until the only alarm has the text, or for "" until there is none.
func alarmOf(t *testing.T, lab *enginetest.Lab, kind, text string) {
	t.Helper()
	lab.Await("the alarm "+kind+" with "+text, func() bool {
		alarms, err := lab.Engine.Alarms(context.Background())
		if text == "" {
			return err == nil && len(alarms) == 0
		}
		return err == nil && len(alarms) == 1 && alarms[0].Kind == kind && strings.Contains(alarms[0].Text, text)
	})
}

// TestToKernel: what a nat backend sends without a connection is given to the kernel as it is, by
// any worker; replies of connections are not.
func TestToKernel(t *testing.T) {
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(anyPort()))
	const flows = 40
	for n := range flows {
		lab.Arrive(enginetest.Backends, query(n).Frame())
	}
	lab.Send(enginetest.Clients, 0, packettest.UDP("192.0.2.7:4000", vip4+":53").Frame())
	lab.Send(enginetest.Backends, 0, packettest.UDP("10.0.0.12:53", "192.0.2.7:4000").Frame(), packettest.UDP("10.0.0.11:53", "192.0.2.7:4000").Frame())
	got := lab.Kernel()
	if len(got) != flows+1 {
		t.Fatalf("the kernel has got %d packets, want %d", len(got), flows+1)
	}
	for n := range flows {
		want := query(n).IP()
		if count := counted(got, want); count != 1 {
			t.Errorf("the kernel has got packet %d %d times", n, count)
		}
	}
	s := lab.Stats()
	if s.ToKernel != flows+1 || s.Forwarded != 2 || s.Dropped() != 0 || s.Workers[0].ToKernel == 0 || s.Workers[1].ToKernel == 0 ||
		s.Workers[0].ToKernel+s.Workers[1].ToKernel != flows+1 {
		t.Errorf("%+v", s)
	}
}

// counted returns how many packets equal p.
func counted(packets [][]byte, p []byte) (n int) {
	for _, other := range packets {
		if bytes.Equal(other, p) {
			n++
		}
	}
	return n
}

// TestToKernelFull: packets that find the ring to the kernel full are dropped by name, and those
// on the ring reach the kernel.
func TestToKernelFull(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(anyPort()))
	release := lab.HoldKernel()
	const sent = 400 // of the ring's 256, and the one that the kernel is about to take
	for n := range sent {
		lab.Inject(enginetest.Backends, 0, query(n).Frame())
	}
	var s api.Stats
	lab.Await("all packets", func() bool { s = lab.Stats(); return s.Rx == sent })
	release()
	lab.Quiet()
	s = lab.Stats()
	dropped(t, s, "kernel_full", sent-s.ToKernel)
	if got := lab.Kernel(); s.ToKernel != 257 && s.ToKernel != 256 || uint64(len(got)) != s.ToKernel {
		t.Errorf("%d packets were given to the kernel, which has got %d", s.ToKernel, len(got))
	}
}

// TestNoDevice: without a device the packets are dropped as those of no connection, and an alarm
// tells why. A service of one TCP port needs no device.
func TestNoDevice(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 1, 1)
	lab.RefuseInjection(errors.New("there is no tun here"))
	lab.Start(1, config(nat3()))
	alarmOf(t, lab, "", "")
	if _, err := lab.Reload(config(nat3(), anyPort())); err != nil {
		t.Fatal(err)
	}
	alarmOf(t, lab, api.AlarmToKernel, "there is no tun here")
	status, err := lab.Engine.Status(context.Background())
	if err != nil || len(status.Attention) != 1 || !strings.Contains(status.Attention[0], "there is no tun here") {
		t.Errorf("status: %q, %v", status.Attention, err)
	}
	lab.Send(enginetest.Backends, 0, query(1).Frame(), packettest.ICMP("10.0.0.11", "192.0.2.7", 3, 3, 0, packettest.UDP("192.0.2.7:1", "10.0.0.11:5353").IP()).Frame())
	if s := lab.Stats(); s.Drops["no_connection"] != 1 || s.Drops["icmp_no_flow"] != 1 || s.ToKernel != 0 {
		t.Errorf("%d to the kernel, dropped: %v", s.ToKernel, nonzero(s.Drops))
	}
	lab.RefuseInjection(nil)
	// Another configuration tries again at once; without one it takes a second.
	for _, services := range []string{config(nat3()), config(nat3(), anyPort())} {
		if _, err := lab.Reload(services); err != nil {
			t.Fatal(err)
		}
	}
	alarmOf(t, lab, "", "")
	lab.Send(enginetest.Backends, 0, query(2).Frame())
	if got := lab.Kernel(); len(got) != 1 {
		t.Errorf("the kernel has got %d packets, want 1", len(got))
	}
}

// TestDeviceLost: a device that another process removes is told of and replaced. Errors of a single
// packet only count.
func TestDeviceLost(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 1, 1)
	var log logBuffer
	lab.Log = slog.New(slog.NewTextHandler(&log, nil))
	lab.Start(1, config(anyPort()))
	lab.LoseKernel(unix.ENOBUFS)
	lab.Send(enginetest.Backends, 0, query(1).Frame())
	if s := lab.Stats(); s.ToKernelFailed != 1 || s.ToKernel != 1 {
		t.Errorf("%d packets to the kernel, %d of them lost", s.ToKernel, s.ToKernelFailed)
	}
	alarmOf(t, lab, "", "")
	lab.RefuseInjection(errors.New("gone for good"))
	lab.LoseKernel(unix.EBADFD)
	lab.Send(enginetest.Backends, 0, query(2).Frame())
	alarmOf(t, lab, api.AlarmToKernel, "gone for good")
	lab.Send(enginetest.Backends, 0, query(3).Frame())
	dropped(t, lab.Stats(), "no_connection", 1)
	if text := log.String(); !strings.Contains(text, "event=to_kernel_failed") || !strings.Contains(text, "another process has removed the device memory") {
		t.Errorf("the log does not tell of the loss:\n%s", text)
	}
	lab.LoseKernel(nil)
	lab.RefuseInjection(nil)
	alarmOf(t, lab, "", "")
	lab.Send(enginetest.Backends, 0, query(4).Frame())
	if got := lab.Kernel(); len(got) != 1 {
		t.Errorf("the kernel has got %d packets, want 1", len(got))
	}
	lab.Close()
	if open, made := lab.Injecting(); open != 0 || made != 2 {
		t.Errorf("%d devices of %d are left", open, made)
	}
}
