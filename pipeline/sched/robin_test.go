package sched_test

import (
	"slices"
	"testing"

	"sluice/pipeline/sched"
)

func TestRRSequence(t *testing.T) {
	down := candidates(1, 1, 1, 1)
	down[0].Up, down[2].Up = false, false
	for _, c := range []struct {
		list []sched.Candidate
		want string
	}{
		{candidates(1, 1, 1), "abcabcabc"},
		{candidates(9, 1, 65535), "abcabcabc"},
		{candidates(1, 0, 1, 0), "acacacaca"},
		{candidates(0, 0, 1), "ccccccccc"},
		{down, "bdbdbdbdb"},
		{candidates(7), "aaaaaaaaa"},
	} {
		if got := picks(mustNew(t, "rr", c.list), new(sched.State), 9); got != c.want {
			t.Errorf("%+v: %s, want %s", c.list, got, c.want)
		}
	}
}

// TestRRChangedList: after a change of the list, rr continues behind the backend that was served
// last.
func TestRRChangedList(t *testing.T) {
	old := equal(4) // a b c d
	for _, c := range []struct {
		what   string
		served int // picks before the change
		list   []sched.Candidate
		want   string // ids as letters
	}{
		{"nothing", 2, old, "cdab"},
		{"added at the head", 2, slices.Concat([]sched.Candidate{{ID: 4, Weight: 1, Up: true}}, old), "cdea"},
		{"last served removed: its follower is next", 2, slices.Delete(slices.Clone(old), 1, 2), "cdac"},
		{"next one removed", 2, slices.Delete(slices.Clone(old), 2, 3), "dabd"},
		{"an earlier one removed", 3, slices.Delete(slices.Clone(old), 0, 1), "dbcd"},
		{"last of the list removed after it was served", 4, old[:3], "abca"},
		{"first removed after it was served", 1, old[1:], "bcdb"},
		{"shrunk to one", 4, old[1:2], "bbbb"},
		{"all new", 3, []sched.Candidate{{ID: 5, Weight: 1, Up: true}, {ID: 6, Weight: 1, Up: true}}, "fgfg"},
		{"reversed: behind b comes a", 2, []sched.Candidate{old[3], old[2], old[1], old[0]}, "adcb"},
		{"fresh", 0, old, "abcd"},
	} {
		var st sched.State
		picks(mustNew(t, "rr", old), &st, c.served)
		s := mustNew(t, "rr", c.list)
		var got []int
		for range 4 {
			got = append(got, int(c.list[s.Pick(&st, nil, nil)].ID))
		}
		if names(got) != c.want {
			t.Errorf("%s: %s, want %s", c.what, names(got), c.want)
		}
	}
}

// TestRREmptyInBetween: without a usable backend the pointer does not move.
func TestRREmptyInBetween(t *testing.T) {
	list := equal(3)
	var st sched.State
	picks(mustNew(t, "rr", list), &st, 2)
	gone := slices.Clone(list)
	for i := range gone {
		gone[i].Up = false
	}
	if got := picks(mustNew(t, "rr", gone), &st, 2); got != "--" {
		t.Errorf("all down: %s", got)
	}
	if got := picks(mustNew(t, "rr", list), &st, 3); got != "cab" {
		t.Errorf("up again: %s, want cab", got)
	}
}

func TestWRRSequence(t *testing.T) {
	down := candidates(4, 2, 1)
	down[0].Up = false
	for _, c := range []struct {
		list []sched.Candidate
		want string
	}{
		{candidates(4, 2, 1), "aaababcaaababc"},
		{candidates(1, 2, 4), "ccbcabcccbcabc"},
		{candidates(4, 2), "aabaabaab"},
		{candidates(5, 3), "aaababab" + "aaababab"},
		{candidates(1, 1, 1), "abcabc"},
		{candidates(100, 100, 100), "abcabc"},
		{candidates(0, 3, 0, 1), "bbbdbbbd"},
		{down, "bbcbbcbbc"}, // like 2, 1: passes for a alone serve no client
	} {
		if got := picks(mustNew(t, "wrr", c.list), new(sched.State), len(c.want)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.list, got, c.want)
		}
	}
}

// TestWRRChangedList: after a change the pointer returns to the head, and the current weight stays
// if the new list has it.
func TestWRRChangedList(t *testing.T) {
	down := candidates(4, 2, 1)
	down[1].Up = false
	for _, c := range []struct {
		what   string
		served int
		list   []sched.Candidate
		want   string
	}{
		{"nothing: aaababc goes on", 3, candidates(4, 2, 1), "babc"},
		{"cw 2 kept, pointer at the head", 3, candidates(4, 2, 1, 1), "ababcdaaa"},
		{"cw 4 above the new maximum 2", 1, candidates(2, 1), "aabaab"},
		{"cw 2 rounded to 3, step 2", 3, candidates(6, 2), "aabaaab"},
		{"down is no change: the pass goes on behind b, cw 2", 4, down, "acaaa"},
	} {
		var st sched.State
		picks(mustNew(t, "wrr", candidates(4, 2, 1)), &st, c.served)
		if got := picks(mustNew(t, "wrr", c.list), &st, len(c.want)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// TestWRRHugeWeights: a backend that is down may have any weight: the rounds for it alone cost no
// time.
func TestWRRHugeWeights(t *testing.T) {
	list := candidates(sched.MaxWeight, 1)
	s, st := mustNew(t, "wrr", list), new(sched.State)
	count := [2]int{}
	for range 2 * (sched.MaxWeight + 1) {
		count[s.Pick(st, nil, nil)]++
	}
	if count != [2]int{2 * sched.MaxWeight, 2} {
		t.Errorf("two cycles served %v", count)
	}
	list[0].Up = false
	if got := picks(mustNew(t, "wrr", list), st, 5); got != "bbbbb" {
		t.Errorf("first down: %s", got)
	}
}

// slowWRR walks the list one position at a time and lowers the required weight one step at a time.
type slowWRR struct {
	list     []sched.Candidate
	cl, cw   int // last position served, -1 for the head
	step, mw int
}

func (s *slowWRR) change(list []sched.Candidate) {
	changed := len(list) != len(s.list) || s.cw == 0
	for i := range min(len(list), len(s.list)) {
		changed = changed || list[i].ID != s.list[i].ID || list[i].Weight != s.list[i].Weight
	}
	s.list = list
	if !changed {
		return
	}
	s.step, s.mw, s.cl = 1, 0, -1
	for _, c := range list {
		s.mw = max(s.mw, int(c.Weight))
	}
	for d := s.mw; d > 1; d-- {
		if !slices.ContainsFunc(list, func(c sched.Candidate) bool { return int(c.Weight)%d != 0 }) {
			s.step = d
			break
		}
	}
	s.mw = max(s.mw-(s.step-1), 0)
	if s.cw > s.mw || s.cw == 0 {
		s.cw = s.mw
	} else if s.step > 1 {
		s.cw = s.cw/s.step*s.step + 1
	}
}

func (s *slowWRR) pick() int {
	if !slices.ContainsFunc(s.list, func(c sched.Candidate) bool { return c.Up && c.Weight > 0 }) {
		return -1
	}
	for {
		if s.cl++; s.cl == len(s.list) {
			s.cl = 0
			if s.cw -= s.step; s.cw <= 0 {
				s.cw = s.mw
			}
		}
		if c := s.list[s.cl]; c.Up && c.Weight > 0 && int(c.Weight) >= s.cw {
			return s.cl
		}
	}
}

// FuzzWRR reads commands: change the list, then pick a while, on wrr and on its slow twin.
func FuzzWRR(f *testing.F) {
	f.Add([]byte{4, 2, 1, 255, 9, 4, 2, 254, 20, 6, 3, 254, 5})
	f.Add([]byte{1, 128 + 64, 254, 200, 128 + 5, 10, 254, 3, 254, 1, 0, 0, 254, 2, 7, 254, 9})
	f.Fuzz(func(t *testing.T, commands []byte) {
		var (
			list []sched.Candidate
			st   sched.State
			slow slowWRR
		)
		for n, c := range commands[:min(len(commands), 200)] {
			if c < 250 && len(list) < 12 {
				id := uint32(len(list))
				list = append(list, sched.Candidate{ID: id, Weight: uint32(c % 100), Up: c < 150})
				continue
			}
			s := mustNew(t, "wrr", list)
			slow.change(slices.Clone(list))
			for i := range 1 + n%40 {
				if got, want := s.Pick(&st, nil, nil), slow.pick(); got != want {
					t.Fatalf("pick %d of %+v is %d, the slow twin's %d", i, list, got, want)
				}
			}
			if c%2 == 0 {
				list = slices.Clone(list[len(list)/2:])
			}
		}
	})
}
