package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// TestDetached: another process detaches the XDP program from each port, or puts a program of its
// own into the link. The daemon attaches its own again, with an event and an alarm, and traffic
// goes on, also on a connection that was open and quiet.
func TestDetached(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	d := start(t, b, cfg)
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Name: "other", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	must(t, err)
	defer pass.Close()
	for _, port := range []string{testbed.Front, testbed.Back} {
		for _, c := range []struct {
			what string
			do   func(link.Link) error
		}{
			{"detached", link.Link.Detach},
			{"replaced", func(l link.Link) error { return l.Update(pass) }},
		} {
			t.Run(port+" "+c.what, func(t *testing.T) {
				quiet, err := b.Client.Dial(ctxOf(t), "tcp", web(nat4))
				must(t, err)
				defer quiet.Close()
				before, err := b.XDP()
				must(t, err)
				mark := d.Process.Mark()
				must(t, onLinkOf(before[port], c.do))
				line, err := d.Process.WaitLineAfter(ctxOf(t), mark, "event=xdp_detached port="+port)
				must(t, err)
				want := "another process has " + c.what + " the XDP program"
				if !strings.Contains(line, want) {
					t.Errorf("the log says %s", line)
				}
				after, err := b.XDP()
				must(t, err)
				if after[port] != before[port] {
					t.Errorf("the port has program %d; it had %d", after[port], before[port])
				}
				poll(t, "an alarm", func() error {
					alarms, err := d.API.Alarms(ctxOf(t))
					if err == nil && !slices.ContainsFunc(alarms, func(a api.Alarm) bool {
						return a.Kind == api.AlarmDetached && strings.Contains(a.Text, "port "+port+": "+want)
					}) {
						err = fmt.Errorf("there is %+v", alarms)
					}
					return err
				})
				if s := b.Ask(ctxOf(t), nat4.URL(), 6); s.Answered() != 6 {
					t.Errorf("6 requests went %s: %v", &s, s.Errors)
				}
				must(t, quiet.SetDeadline(time.Now().Add(waitLimit)))
				_, err = io.WriteString(quiet, "GET / HTTP/1.0\r\n\r\n")
				must(t, err)
				if answer, err := io.ReadAll(quiet); err != nil || len(answer) == 0 {
					t.Errorf("the quiet connection: %q, %v", answer, err)
				}
			})
		}
	}
}

// onLinkOf calls do with the link that attaches an XDP program.
func onLinkOf(program ebpf.ProgramID, do func(link.Link) error) error {
	all := new(link.Iterator)
	defer all.Close()
	for all.Next() {
		if info, err := all.Link.Info(); err == nil && info.Program == program && info.XDP() != nil {
			return do(all.Link)
		}
	}
	return errors.Join(fmt.Errorf("no link has program %d", program), all.Err())
}
