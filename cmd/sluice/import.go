package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/conf"
	"sluice/conf/draft"
	"sluice/conf/ipvsadm"
	"sluice/conf/keepalived"
)

// maxImport is the maximum size of a file to import.
const maxImport = 16 << 20

func newImport() *cobra.Command {
	cmd := cli.Parent("unknown format %q", "missing the format to import from")
	cmd.Use = "import"
	cmd.Short = "Convert the configuration of another program"
	cmd.Long = "Import converts the configuration of another load balancer. Every setting that is lost or changed is listed\n" +
		"with its line, on stderr and in comments at the head of the new file. A file may have 16 MiB, 65535 services and\n" +
		"262144 backends."
	cmd.AddCommand(newImportKeepalived(), newImportIpvsadm())
	return cmd
}

func newImportKeepalived() *cobra.Command {
	return importer("keepalived", "Convert a keepalived.conf",
		"Reads the virtual servers of a keepalived.conf, with the files that it includes. FILE may be - for stdin.\n"+
			"VRRP is not imported: keepalived can continue to run for it.",
		"  sluice import keepalived /etc/keepalived/keepalived.conf --port eth0 -w sluice.toml",
		func(name string, data []byte) (*draft.Draft, error) { return keepalived.Parse(name, data, included{}) })
}

func newImportIpvsadm() *cobra.Command {
	return importer("ipvsadm", "Convert the output of `ipvsadm -S -n`",
		"Reads the output of `ipvsadm -S -n`, or a script of ipvsadm commands. FILE may be - for stdin.",
		"  ipvsadm -S -n | sluice import ipvsadm - --port eth0 --port eth1 -w sluice.toml",
		func(name string, data []byte) (*draft.Draft, error) { return ipvsadm.Parse(name, data) })
}

// importer returns the verb for one program. parse returns a Draft with what it found even when it
// fails.
func importer(name, short, long, example string, parse func(name string, data []byte) (*draft.Draft, error)) *cobra.Command {
	var out outputFile
	var ports []string
	cmd := &cobra.Command{
		Use:     name + " FILE",
		Short:   short,
		Long:    long,
		Example: example,
		Args:    cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, data, err := readInput(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			d, err := parse(source, data)
			if d != nil {
				for _, note := range d.Notes {
					fmt.Fprintln(cmd.ErrOrStderr(), note)
				}
			}
			if err != nil {
				return err
			}
			d.Ports = ports
			text := d.TOML()
			if _, _, err := conf.Parse(cmp.Or(out.path, "sluice.toml"), text, nil); err != nil {
				return err // of a --port
			}
			if err := out.write(cmd.OutOrStdout(), text); err != nil {
				return err
			}
			summary(cmd.ErrOrStderr(), d, out.path)
			return nil
		},
	}
	out.add(cmd)
	cmd.Flags().StringArrayVar(&ports, "port", nil, "interface to receive and send on; repeat for each")
	return cmd
}

// summary prints what was imported and what to do next.
func summary(w io.Writer, d *draft.Draft, path string) {
	backends := 0
	for _, s := range d.Services {
		backends += len(s.Backends)
	}
	fmt.Fprintf(w, "sluice: imported: services=%d backends=%d notes=%d\n", len(d.Services), backends, len(d.Notes))
	if len(d.Ports) == 0 {
		fmt.Fprintf(w, "sluice: no --port was given, so [[port]] has the placeholder %q: replace it by the interfaces to clients and backends\n", draft.DefaultPort)
	}
	if path != "" {
		fmt.Fprintf(w, "sluice: next step: sluice check --config %s\n", path)
	}
}

// readInput reads a file, or stdin if path is -. name stands for it in messages.
func readInput(stdin io.Reader, path string) (name string, data []byte, err error) {
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(stdin, maxImport+1))
		name = "stdin"
	} else {
		name = path
		var f *os.File
		if f, err = os.Open(path); err == nil {
			defer f.Close()
			data, err = io.ReadAll(io.LimitReader(f, maxImport+1))
		}
	}
	if err == nil && len(data) > maxImport {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxImport>>20)
	}
	return name, data, err
}

// outputFile is the output of a verb: stdout, or a new file. Only --force replaces an existing one.
type outputFile struct {
	path  string
	force bool
}

func (o *outputFile) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.path, "write", "w", "", "file to write instead of stdout")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace an existing file")
}

// write writes everything or nothing: the file appears when it is complete.
func (o *outputFile) write(stdout io.Writer, data []byte) (err error) {
	if o.path == "" {
		_, err := stdout.Write(data)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(o.path), "."+filepath.Base(o.path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // fails after success: the file was renamed
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if o.force {
		return os.Rename(f.Name(), o.path)
	}
	if err := os.Link(f.Name(), o.path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: give another name, or --force to replace it", o.path)
	} else if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "link "))
	}
	return nil
}

// included reads a file that a keepalived.conf includes.
type included struct{}

func (included) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

func (included) Read(path string) ([]byte, error) {
	_, data, err := readInput(nil, path)
	return data, err
}
