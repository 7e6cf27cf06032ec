package netlab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"sluice/tools/netlab"
	"sluice/tools/netlab/backend"
)

// makerEnv makes the test binary create a lab that it never closes: see TestSweep.
const makerEnv = "NETLAB_TEST_MAKER"

func TestMain(m *testing.M) {
	backend.RunIfChild()
	if os.Getenv(makerEnv) != "" {
		if err := makeAndHang(); err != nil {
			fmt.Println("maker:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// makeAndHang creates a lab with a process that has a child, prints both, and waits to be killed.
func makeAndHang() error {
	lab, err := netlab.New("killed")
	if err != nil {
		return err
	}
	h, err := lab.Host("a")
	if err != nil {
		return err
	}
	p, err := h.Start(exec.Command("sh", "-c", "sleep 600 & echo child $!; wait"))
	if err != nil {
		return err
	}
	child, err := p.WaitLine(context.Background(), "child")
	if err != nil {
		return err
	}
	fmt.Printf("ready %s process %d %s\n", h.Namespace(), p.PID(), child)
	select {}
}
