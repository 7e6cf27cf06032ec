package report

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// chart is one pair of axes.
type chart struct {
	title, x, y string
	series      []series
}

// series is one line, or a cloud of dots.
type series struct {
	name   string
	dots   bool
	points []point
}

type point struct{ x, y float64 }

func (s *series) add(x, y float64) { s.points = append(s.points, point{x, y}) }

// Sizes in pixels, and the colours of the series.
const (
	chartWidth, chartHeight   = 760, 300
	marginLeft, marginRight   = 80, 90
	marginTop, marginBottom   = 36, 46
	plotWidth                 = chartWidth - marginLeft - marginRight
	plotHeight                = chartHeight - marginTop - marginBottom
	colours                   = "#1f6fb4 #d1495b #2e8b57 #b8860b"
	grid, text                = "#dddddd", "#333333"
	stepsOfAxis               = 5
	titleSize, labelSize, dot = 15, 12, 3.5
)

// axis maps values from 0 to a round number onto pixels.
type axis struct{ top, step float64 }

// newAxis reaches from 0 to at least top, in steps of 1, 2 or 5 times a power of ten.
func newAxis(top float64) axis {
	if !(top > 0) || math.IsInf(top, 0) {
		return axis{top: 1, step: 1}
	}
	raw := top / stepsOfAxis
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= raw {
			step = factor * power
			break
		}
	}
	return axis{top: math.Ceil(top/step-1e-9) * step, step: step}
}

func (a axis) steps() int { return int(math.Round(a.top / a.step)) }

// label writes a value of an axis in short: 1500000 as 1.5M.
func label(v float64) string {
	for _, unit := range []struct {
		size   float64
		suffix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 4, 64) + unit.suffix
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// draw writes charts below each other as one SVG file that needs nothing else.
func draw(w io.Writer, charts []chart) error {
	out := bufio.NewWriter(w)
	height := chartHeight * len(charts)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintln(out, `<rect width="100%" height="100%" fill="white"/>`)
	for i, c := range charts {
		fmt.Fprintf(out, `<g transform="translate(%d %d)">`+"\n", marginLeft, i*chartHeight+marginTop)
		c.draw(out)
		fmt.Fprintln(out, `</g>`)
	}
	fmt.Fprintln(out, `</svg>`)
	return out.Flush()
}

func (c chart) draw(w io.Writer) {
	var right, top float64
	for _, s := range c.series {
		for _, p := range s.points {
			right, top = max(right, p.x), max(top, p.y)
		}
	}
	x, y := newAxis(right), newAxis(top)
	write(w, 0, -14, "start", titleSize, c.title)
	for i := range y.steps() + 1 {
		v := float64(i) * y.step
		at := plotHeight * (1 - v/y.top)
		fmt.Fprintf(w, `<line x1="0" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", at, plotWidth, at, grid)
		write(w, -8, at+4, "end", labelSize, label(v))
	}
	for i := range x.steps() + 1 {
		v := float64(i) * x.step
		write(w, plotWidth*v/x.top, plotHeight+18, "middle", labelSize, label(v))
	}
	write(w, plotWidth/2, plotHeight+38, "middle", labelSize, c.x)
	fmt.Fprintf(w, `<g transform="translate(-58 %d) rotate(-90)">`, plotHeight/2)
	write(w, 0, 0, "middle", labelSize, c.y)
	fmt.Fprintln(w, `</g>`)
	for i, s := range c.series {
		if len(s.points) == 0 {
			continue
		}
		colour := strings.Fields(colours)[i%4]
		s.draw(w, x, y, colour)
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="12" height="4" fill="%s"/>`+"\n", plotWidth+10, 18*i+4, colour)
		write(w, plotWidth+26, float64(18*i+10), "start", labelSize, s.name)
	}
}

func (s series) draw(w io.Writer, x, y axis, colour string) {
	var line strings.Builder
	for _, p := range s.points {
		atX, atY := plotWidth*p.x/x.top, plotHeight*(1-p.y/y.top)
		fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>`+"\n", atX, atY, dot, colour)
		fmt.Fprintf(&line, "%.1f,%.1f ", atX, atY)
	}
	if !s.dots {
		fmt.Fprintf(w, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(line.String()), colour)
	}
}

// write puts a text at a place of a chart.
func write(w io.Writer, x, y float64, anchor string, size int, words string) {
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">`, x, y, anchor, size, text)
	_ = xml.EscapeText(w, []byte(words)) // to a buffer
	fmt.Fprintln(w, `</text>`)
}
