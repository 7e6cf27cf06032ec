package text

import (
	"testing"
	"unicode/utf8"
)

func TestAgo(t *testing.T) {
	for seconds, want := range map[float64]string{-1: "", 0: "0s", 59.9: "59s", 190: "3m10s", 18120: "5h02m", 187200: "2d04h", 9.2e9: ""} {
		if got := Ago(seconds); got != want {
			t.Errorf("Ago(%v) = %q, want %q", seconds, got, want)
		}
	}
}

func TestSI(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.01: "0", 0.44: "0.4", 5: "5", 9.97: "10", 123.4: "123", 999.4: "999", 999.6: "1.00k",
		1203: "1.20k", 12345: "12.3k", 999499: "999k", 999501: "1.00M", 35123456: "35.1M", 9.87e9: "9.87G", 1e30: "much"} {
		if got := SI(n); got != want || len(got) > 5 {
			t.Errorf("SI(%v) = %q, want %q", n, got, want)
		}
	}
}

func TestOneLineLeavesNoControlCharacter(t *testing.T) {
	if got := OneLine("a\r\n\x1b[31mb\x00 \u202ec\u0085d"); got != "a [31mb c d" {
		t.Errorf("%q", got)
	}
}

func TestSparklineAndBar(t *testing.T) {
	for _, c := range []struct {
		values  []float64
		columns int
		want    string
	}{
		{nil, 3, "   "},
		{[]float64{0, 0}, 3, " ▁▁"},
		{[]float64{9, 0, 0.001, 4, 8}, 4, "▁▂▅█"},
		{[]float64{7}, 2, " █"},
	} {
		if got := Sparkline(c.values, c.columns); got != c.want || utf8.RuneCountInString(got) != c.columns {
			t.Errorf("Sparkline(%v, %d) = %q, want %q", c.values, c.columns, got, c.want)
		}
	}
	for share, want := range map[float64]string{-1: "░░░░", 0.5: "██░░", 0.99: "████", 7: "████"} {
		if got := Bar(share, 4); got != want {
			t.Errorf("Bar(%v) = %q, want %q", share, got, want)
		}
	}
}
