package main

import (
	"fmt"
	"strconv"
	"strings"
)

// value is a flag that is parsed by a function.
type value[T any] struct {
	to   *T
	read func(string) (T, error)
	text string
	kind string
}

// newValue returns a flag that sets to. text is its initial text.
func newValue[T any](to *T, text, kind string, read func(string) (T, error)) *value[T] {
	return &value[T]{to: to, read: read, text: text, kind: kind}
}

// String, Set and Type implement pflag.Value.
func (v *value[T]) String() string { return v.text }
func (v *value[T]) Type() string   { return v.kind }

func (v *value[T]) Set(text string) error {
	read, err := v.read(text)
	if err != nil {
		return err
	}
	*v.to, v.text = read, text
	return nil
}

// parseRate reads frames per second: 250000, 250k, 1.5M, or max.
func parseRate(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	number, unit := text, 1.0
	for suffix, factor := range map[string]float64{"k": 1e3, "M": 1e6} {
		if cut, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = cut, factor
		}
	}
	pps, err := strconv.ParseFloat(number, 64)
	if err != nil || !(pps > 0) {
		return 0, fmt.Errorf("%q is not a rate: use frames per second, as 250000, 250k or 1.5M, or max", text)
	}
	return pps * unit, nil
}
