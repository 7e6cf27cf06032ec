package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newCapture() *cobra.Command {
	var flags daemonFlags
	q := api.TraceQuery{Frames: true}
	var path string
	var most int64
	cmd := &cobra.Command{
		Use:   "capture -w FILE [FILTER]",
		Short: "Write live packets to a pcapng file, before and after rewriting",
		Long: "Capture writes every packet twice: as it was received and as it was sent. Interface names in the file tell them apart:\n" +
			"\"eth0 in\", \"eth1 out\", \"eth0 in, dropped: no_backend\", \"eth0 out, reply\". -w - writes to stdout, for a\n" +
			"pipe into tcpdump or wireshark. FILTER is in tcpdump's syntax and matches a packet as received or as sent. It ends after\n" +
			"--count packets, after --duration, at --max-bytes, or on ^C.",
		Example: "  sluice capture -w lost.pcapng --count 1000 host 203.0.113.5\n" +
			"  sluice capture -w - tcp port 80 | tcpdump -nr -",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if path == "" {
				return cli.Usage(errors.New("say where to write: -w FILE, or -w - for stdout"))
			}
			if most <= 0 {
				return cli.Usage(fmt.Errorf("--max-bytes %d is less than 1", most))
			}
			q.Filter = strings.Join(args, " ")
			if _, err := q.Checked(); err != nil {
				return cli.Usage(err)
			}
			end, err := capture(cmd, flags.client(), q, path, most)
			if err != nil {
				return err
			}
			if flags.output == formatTable {
				return printEnd(cmd.ErrOrStderr(), end, nil)
			}
			out := cmd.OutOrStdout()
			if path == "-" {
				out = cmd.ErrOrStderr() // stdout has the packets
			}
			return flags.output.print(out, captureEnd{end, path}, nil)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&path, "write", "w", "", "file to write, - for stdout")
	cmd.Flags().IntVar(&q.Snaplen, "snaplen", 0, "bytes of each frame to keep (0: all)")
	cmd.Flags().Int64Var(&most, "max-bytes", 1<<30, "end before the file is larger than this number of bytes")
	traceFlags(cmd, &q)
	return cmd
}

// captureEnd is the JSON that capture prints at its end.
type captureEnd struct {
	api.TraceEnd
	File string `json:"file"` // - for stdout
}

// capture writes packets to a file, or to stdout, until the trace ends. An existing file at path is
// truncated only when the daemon has begun the new capture.
func capture(cmd *cobra.Command, control api.Control, q api.TraceQuery, path string, most int64) (end api.TraceEnd, err error) {
	out := cmd.OutOrStdout()
	if path != "-" {
		// Packets may hold secrets.
		file, failed := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if failed != nil {
			return end, failed
		}
		defer func() {
			if failed := file.Close(); err == nil {
				err = failed
			}
		}()
		out = file
	}
	w := &pcapWriter{out: bufio.NewWriter(out), most: most, now: path == "-"}
	started := false
	q.Started = func() {
		started = true
		if file, ok := out.(*os.File); ok && path != "-" {
			_ = file.Truncate(0) // fails on a named pipe
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "sluice: capturing; ^C ends it")
	}
	end, err = follow(cmd.Context(), control, q, w.write)
	if started {
		err = errors.Join(err, w.close())
	}
	return end, err
}

// pcapWriter writes packets as received and as sent. It adds an interface when the first packet
// needs it.
type pcapWriter struct {
	out  *bufio.Writer
	most int64 // bytes
	now  bool  // flush each packet: a reader waits for it

	ng         *pcapgo.NgWriter
	interfaces map[string]int
	bytes      int64
}

// overhead is more than what the file has beside a frame's bytes: block, padding, and an
// interface's block.
const overhead = 256

// What follows the port in the names of interfaces of packets as sent. The kernel's names have no
// spaces.
const (
	sent      = " out"
	sentReply = ", reply"
)

// sentBySluice reports whether capture has given an interface its name, for packets as sent.
func sentBySluice(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(name, sentReply), sent)
}

// write adds a packet. It returns errEnough if the file would be too large.
func (w *pcapWriter) write(e api.TraceEvent) error {
	size := int64(len(e.In) + len(e.Out) + 2*overhead)
	if w.bytes+size > w.most {
		return errEnough
	}
	w.bytes += size
	in := e.Port + " in"
	switch e.Verdict {
	case "drop":
		in += ", dropped: " + e.Reason
	case "pass":
		in += ", passed to the kernel"
	}
	if err := w.packet(e, in, e.In, e.Length); err != nil {
		return err
	}
	if len(e.Out) > 0 {
		out := e.OutPort + sent
		if e.Verdict == "reply" {
			out += sentReply
		}
		if err := w.packet(e, out, e.Out, e.OutLength); err != nil {
			return err
		}
	}
	if w.now {
		return w.flush()
	}
	return nil
}

func (w *pcapWriter) packet(e api.TraceEvent, name string, frame []byte, length int) (err error) {
	number, known := w.interfaces[name]
	if !known {
		of := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: 0, TimestampResolution: 9}
		if w.ng == nil {
			w.interfaces = make(map[string]int)
			w.ng, err = pcapgo.NewNgWriterInterface(w.out, of, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "sluice " + version}})
		} else {
			number, err = w.ng.AddInterface(of)
		}
		if err != nil {
			return err
		}
		w.interfaces[name] = number
	}
	return w.ng.WritePacket(gopacket.CaptureInfo{
		Timestamp: e.Time, CaptureLength: len(frame), Length: max(length, len(frame)), InterfaceIndex: number,
	}, frame)
}

func (w *pcapWriter) flush() error {
	if w.ng == nil {
		return nil
	}
	return errors.Join(w.ng.Flush(), w.out.Flush())
}

// close completes the file, which is valid without packets, too.
func (w *pcapWriter) close() error {
	if w.ng == nil {
		ng, err := pcapgo.NewNgWriter(w.out, layers.LinkTypeEthernet)
		if err != nil {
			return err
		}
		w.ng = ng
	}
	return w.flush()
}
