// Package chart draws line, dot and bar charts as SVG files that refer to no other file.
package chart

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Chart is one pair of axes. Without Categories x is a number from 0; with them it is the index of
// a category, and categories are evenly spaced.
type Chart struct {
	Title, X, Y string
	Subtitle    string
	Categories  []string
	Series      []Series
	Marks       []Mark
	Bars        bool // bars in place of lines; needs Categories
	LogY        bool
	FormatY     func(float64) string // labels of the y axis; nil: 1500 is 1.5k
}

// Mark is a vertical line with a text.
type Mark struct {
	X    float64
	Text string
}

// Series is one line, or a set of dots or bars.
type Series struct {
	Name   string
	Dots   bool // no line between the points
	Cross  bool // points are crosses, not circles
	Points []Point
}

// Point is a value. A vertical line from Min to Max is drawn through it, unless both are 0.
type Point struct{ X, Y, Min, Max float64 }

// Add appends a point without a range.
func (s *Series) Add(x, y float64) { s.Points = append(s.Points, Point{X: x, Y: y}) }

// Sizes in pixels.
const (
	width        = 800
	plotHeight   = 260
	marginLeft   = 80
	marginRight  = 190
	marginTop    = 40
	marginBottom = 60
	plotWidth    = width - marginLeft - marginRight
	height       = plotHeight + marginTop + marginBottom
	axisSteps    = 5
)

var colours = []string{"#1f6fb4", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#00868b", "#8b4513", "#555555",
	"#7bafd4", "#e8a0a8", "#9fc9a5", "#d9c27a"}

// Draw writes charts, one below the other, as one SVG file.
func Draw(w io.Writer, charts ...Chart) error {
	out := bufio.NewWriter(w) // keeps its first error until Flush
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n",
		width, height*len(charts))
	fmt.Fprintln(out, `<rect width="100%" height="100%" fill="white"/>`)
	for i, c := range charts {
		fmt.Fprintf(out, `<g transform="translate(%d %d)">`+"\n", marginLeft, i*height+marginTop)
		c.draw(out)
		fmt.Fprintln(out, `</g>`)
	}
	fmt.Fprintln(out, `</svg>`)
	return out.Flush()
}

func (c Chart) draw(w io.Writer) {
	x, y := c.axes()
	if c.Subtitle == "" {
		label(w, 0, -18, "start", c.Title)
	} else {
		label(w, 0, -24, "start", c.Title)
		c.drawSubtitle(w)
	}
	formatY := c.FormatY
	if formatY == nil {
		formatY = short
	}
	for _, v := range y.ticks() {
		at := plotHeight - y.at(v)
		fmt.Fprintf(w, `<line x1="0" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/>`+"\n", at, plotWidth, at)
		label(w, -8, at+4, "end", formatY(v))
	}
	if c.Categories == nil {
		for _, v := range x.ticks() {
			label(w, x.at(v), plotHeight+18, "middle", short(v))
		}
	}
	for i, category := range c.Categories {
		label(w, x.at(float64(i)), plotHeight+18, "middle", category)
	}
	label(w, plotWidth/2, plotHeight+42, "middle", c.X)
	fmt.Fprintf(w, `<g transform="translate(-60 %d) rotate(-90)">`, plotHeight/2)
	label(w, 0, 0, "middle", c.Y)
	fmt.Fprintln(w, `</g>`)
	for i, s := range c.Series {
		if len(s.Points) == 0 {
			continue
		}
		colour := colours[i%len(colours)]
		if c.Bars {
			c.drawBars(w, x, y, i, colour)
		} else {
			s.draw(w, x, y, colour)
		}
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="12" height="8" fill="%s"/>`+"\n", plotWidth+14, 18*i, colour)
		label(w, plotWidth+32, float64(18*i+8), "start", s.Name)
	}
	for _, m := range c.Marks {
		m.draw(w, x.at(m.X))
	}
}

// draw draws a mark. Its text stands on the side where the chart has more space.
func (m Mark) draw(w io.Writer, at float64) {
	fmt.Fprintf(w, `<line x1="%.1f" y1="0" x2="%.1f" y2="%d" stroke="#222222" stroke-dasharray="4 3"/>`+"\n", at, at, plotHeight)
	if at > plotWidth/2 {
		label(w, at-5, 12, "end", m.Text)
	} else {
		label(w, at+5, 12, "start", m.Text)
	}
}

// drawSubtitle draws the subtitle below the title, in letters so small that it fits.
func (c Chart) drawSubtitle(w io.Writer) {
	const letter = 0.63 // mean width, in font sizes
	size := min(11, (width-marginLeft-10)/letter/float64(utf8.RuneCountInString(c.Subtitle)))
	fmt.Fprintf(w, `<g font-size="%.1f">`, size)
	label(w, 0, -9, "start", c.Subtitle)
	fmt.Fprintln(w, `</g>`)
}

// drawBars draws one series as bars. The bars of a category stand side by side.
func (c Chart) drawBars(w io.Writer, x, y axis, series int, colour string) {
	space := plotWidth / float64(len(c.Categories)) * 0.8 / float64(len(c.Series))
	for _, p := range c.Series[series].Points {
		left := x.at(p.X) + space*(float64(series)-float64(len(c.Series))/2)
		fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n",
			left, plotHeight-y.at(p.Y), space*0.9, y.at(p.Y), colour)
		p.drawRange(w, left+space*0.45, y)
	}
}

func (s Series) draw(w io.Writer, x, y axis, colour string) {
	var path strings.Builder
	for _, p := range s.Points {
		fmt.Fprintf(&path, "%.1f,%.1f ", x.at(p.X), plotHeight-y.at(p.Y))
		p.drawRange(w, x.at(p.X), y)
		if s.Cross {
			fmt.Fprintf(w, `<path d="M%.1f %.1f m-4 -4 l8 8 m0 -8 l-8 8" stroke="%s" stroke-width="2"/>`+"\n", x.at(p.X), plotHeight-y.at(p.Y), colour)
			continue
		}
		fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x.at(p.X), plotHeight-y.at(p.Y), colour)
	}
	if !s.Dots {
		fmt.Fprintf(w, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(path.String()), colour)
	}
}

func (p Point) drawRange(w io.Writer, x float64, y axis) {
	if p.Min != 0 || p.Max != 0 {
		fmt.Fprintf(w, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#222222"/>`+"\n", x, plotHeight-y.at(p.Min), x, plotHeight-y.at(p.Max))
	}
}

// axis maps values onto pixels.
type axis struct {
	from, to, step float64
	pixels         float64
	log            bool // from, to and step are powers of ten
}

// axes returns the axes on which all points of a chart lie.
func (c Chart) axes() (x, y axis) {
	low, high, right := math.Inf(1), 0.0, 0.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			right, high = max(right, p.X), max(high, p.Y, p.Max)
			for _, v := range []float64{p.Y, p.Min} {
				if v > 0 {
					low = min(low, v)
				}
			}
		}
	}
	x, y = linear(right, plotWidth), linear(high, plotHeight)
	if c.Categories != nil {
		x = axis{from: -0.5, to: float64(len(c.Categories)) - 0.5, step: 1, pixels: plotWidth}
	}
	if c.LogY {
		if math.IsInf(low, 0) || math.IsInf(high, 0) {
			low, high = 1, 1
		}
		y = axis{from: math.Floor(math.Log10(low)), to: math.Floor(math.Log10(high)) + 1, step: 1, pixels: plotHeight, log: true}
	}
	return x, y
}

// linear returns an axis from 0 to at least high, in steps of 1, 2 or 5 times a power of ten.
func linear(high, pixels float64) axis {
	if !(high > 0) || math.IsInf(high, 0) {
		return axis{to: 1, step: 1, pixels: pixels}
	}
	raw := high / axisSteps
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, factor := range []float64{5, 2, 1} {
		if factor*power >= raw {
			step = factor * power
		}
	}
	return axis{to: math.Ceil(high/step-1e-9) * step, step: step, pixels: pixels}
}

// at returns the distance of a value from the start of the axis, never outside of it.
func (a axis) at(v float64) float64 {
	if a.log {
		v = math.Log10(max(v, math.SmallestNonzeroFloat64))
	}
	return a.pixels * min(max((v-a.from)/(a.to-a.from), 0), 1)
}

// ticks returns the values that have a label.
func (a axis) ticks() (values []float64) {
	for i := range int(math.Round((a.to-a.from)/a.step)) + 1 {
		v := a.from + float64(i)*a.step
		if a.log {
			v = math.Pow(10, v)
		}
		values = append(values, v)
	}
	return values
}

// short formats the label of a value: 1500000 as 1.5M.
func short(v float64) string {
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

func label(w io.Writer, x, y float64, anchor, text string) {
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#333333">`, x, y, anchor)
	_ = xml.EscapeText(w, []byte(text)) // to the writer of Draw, which keeps the error
	fmt.Fprintln(w, `</text>`)
}
