package api_test

import (
	"testing"

	"sluice/engine/api"
)

// FuzzParseTuple checks that every text is a tuple that reads the same again, or an error.
func FuzzParseTuple(f *testing.F) {
	for _, text := range []string{"tcp 203.0.113.5:4000 198.51.100.10:80", "UDP [2001:db8::1]:5 -> [2001:db8::2]:53", "tcp ::ffff:1.2.3.4 > 5.6.7.8:9,", "tcp fe80::1%eth0 [fe80::2%x]:80"} {
		f.Add(text)
	}
	services := lab().Services
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = api.FindService(services, text) // whatever it finds
		_, _ = api.FindBackend(services[0], text)
		tuple, err := api.ParseTuple(text)
		if err != nil {
			return
		}
		if again, err := api.ParseTuple(tuple.String()); err != nil || again != tuple {
			t.Errorf("%q is %+v, and %q is %+v, %v", text, tuple, tuple, again, err)
		}
	})
}
