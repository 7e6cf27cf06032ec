package main

import (
	"bytes"
	"testing"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// serve serves a control on a socket until the test ends.
func serve(t *testing.T, control api.Control) (socket string) {
	t.Helper()
	_, socket = apitest.Serve(t, control)
	return socket
}

// sluice runs one command line and returns its exit code and what it printed.
func sluice(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(args, &out, &errs)
	return code, out.String(), errs.String()
}
