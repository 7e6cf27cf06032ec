package cpu

import (
	"slices"
	"testing"
)

func TestList(t *testing.T) {
	for text, want := range map[string][]int{
		"0":             {0},
		"0-3":           {0, 1, 2, 3},
		"0-1,4,6-7\n":   {0, 1, 4, 6, 7},
		"8191":          {8191},
		" 5 ":           {5},
		"0,2,4":         {0, 2, 4},
		"10-11,64-65\n": {10, 11, 64, 65},
	} {
		got, err := ParseList(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseList(%q) is %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseList(FormatList(got)); err != nil || !slices.Equal(again, want) {
			t.Errorf("FormatList(%v) is %q", got, FormatList(got))
		}
	}
	if got, err := ParseList("\n"); got != nil || err != nil || FormatList(nil) != "none" {
		t.Errorf("empty list: %v, %v, %q", got, err, FormatList(nil))
	}
	for _, bad := range []string{"a", "1-", "-1", "3-1", "1,,2", "0-8192", "1-2-3", "99999999999999999999", "1 2"} {
		if got, err := ParseList(bad); err == nil {
			t.Errorf("ParseList(%q) is %v, want an error", bad, got)
		}
	}
}
