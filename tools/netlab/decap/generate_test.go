package decap_test

import (
	"testing"

	"sluice/tools/bpf2go"
)

func TestGeneratedFilesAreCurrent(t *testing.T) { bpf2go.Check(t) }
