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

// Chart compares series at the same places of the x axis, which are evenly spaced whatever they are
// called. With one place, or with Bars, each value is a bar.
type Chart struct {
	Title, X, Y string
	Places      []string
	Series      []Series
	Bars        bool
	LogY        bool
}

// Series has one point for each place; a point may be missing.
type Series struct {
	Name   string
	Points []*Point
}

// Point is a median with its extremes.
type Point struct{ Median, Min, Max float64 }

// Sizes in pixels.
const (
	chartWidth   = 800
	plotHeight   = 260
	marginLeft   = 80
	marginRight  = 190
	marginTop    = 40
	marginBottom = 60
	plotWidth    = chartWidth - marginLeft - marginRight
	chartHeight  = plotHeight + marginTop + marginBottom
	gridSteps    = 5
)

var colours = []string{"#1f6fb4", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#00868b", "#8b4513", "#555555",
	"#7bafd4", "#e8a0a8", "#9fc9a5", "#d9c27a"}

// Draw writes the chart as an SVG file that needs nothing else.
func (c Chart) Draw(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		chartWidth, chartHeight, chartWidth, chartHeight)
	fmt.Fprintln(out, `<rect width="100%" height="100%" fill="white"/>`)
	fmt.Fprintf(out, `<g transform="translate(%d %d)">`+"\n", marginLeft, marginTop)
	label(out, 0, -18, "start", c.Title)
	y := c.axis()
	y.draw(out)
	for i, place := range c.Places {
		label(out, c.x(i), plotHeight+18, "middle", place)
	}
	label(out, plotWidth/2, plotHeight+42, "middle", c.X)
	fmt.Fprintf(out, `<g transform="translate(-60 %d) rotate(-90)">`, plotHeight/2)
	label(out, 0, 0, "middle", c.Y)
	fmt.Fprintln(out, `</g>`)
	for i, s := range c.Series {
		colour := colours[i%len(colours)]
		if c.Bars {
			c.bars(out, y, i, s, colour)
		} else {
			c.line(out, y, s, colour)
		}
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="12" height="8" fill="%s"/>`+"\n", plotWidth+14, 18*i, colour)
		label(out, plotWidth+32, float64(18*i+8), "start", s.Name)
	}
	fmt.Fprint(out, "</g>\n</svg>\n")
	return out.Flush()
}

// x is the middle of a place.
func (c Chart) x(place int) float64 {
	return plotWidth * (float64(place) + 0.5) / float64(len(c.Places))
}

// whisker is the line between the extremes.
func whisker(w io.Writer, y axis, at float64, p *Point) {
	fmt.Fprintf(w, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#222222"/>`+"\n", at, y.at(p.Min), at, y.at(p.Max))
}

func (c Chart) bars(w io.Writer, y axis, number int, s Series, colour string) {
	width := plotWidth / float64(len(c.Places)) * 0.8 / float64(len(c.Series))
	for i, p := range s.Points {
		if p == nil {
			continue
		}
		left := c.x(i) + width*(float64(number)-float64(len(c.Series))/2)
		fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n",
			left, y.at(p.Median), width*0.9, plotHeight-y.at(p.Median), colour)
		whisker(w, y, left+width*0.45, p)
	}
}

func (c Chart) line(w io.Writer, y axis, s Series, colour string) {
	var path strings.Builder
	for i, p := range s.Points {
		if p == nil {
			continue
		}
		fmt.Fprintf(&path, "%.1f,%.1f ", c.x(i), y.at(p.Median))
		whisker(w, y, c.x(i), p)
		fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", c.x(i), y.at(p.Median), colour)
	}
	fmt.Fprintf(w, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(path.String()), colour)
}

// axis maps values onto pixels from the top.
type axis struct {
	bottom, top, step float64
	log               bool // by powers of ten
}

func (c Chart) axis() axis {
	low, high := math.Inf(1), 0.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			if p != nil {
				high = max(high, p.Max)
				if p.Min > 0 {
					low = min(low, p.Min)
				}
			}
		}
	}
	if !(high > 0) || math.IsInf(high, 0) {
		low, high = 1, 1
	}
	if c.LogY {
		return axis{bottom: math.Floor(math.Log10(low)), top: math.Floor(math.Log10(high)) + 1, step: 1, log: true}
	}
	raw := high / gridSteps
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, factor := range []float64{5, 2, 1} {
		if factor*power >= raw {
			step = factor * power
		}
	}
	return axis{top: math.Ceil(high/step-1e-9) * step, step: step}
}

// at is where a value lies, never outside.
func (a axis) at(v float64) float64 {
	if a.log {
		v = math.Log10(max(v, math.SmallestNonzeroFloat64))
	}
	return plotHeight * (1 - min(max((v-a.bottom)/(a.top-a.bottom), 0), 1))
}

func (a axis) draw(w io.Writer) {
	for i := range int(math.Round((a.top-a.bottom)/a.step)) + 1 {
		v := a.bottom + float64(i)*a.step
		if a.log {
			v = math.Pow(10, v)
		}
		fmt.Fprintf(w, `<line x1="0" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/>`+"\n", a.at(v), plotWidth, a.at(v))
		label(w, -8, a.at(v)+4, "end", strconv.FormatFloat(v, 'g', 4, 64))
	}
}

// label writes text, whatever is in it.
func label(w io.Writer, x, y float64, anchor, text string) {
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#333333">`, x, y, anchor)
	_ = xml.EscapeText(w, []byte(text)) // the writer keeps its first error until Flush
	fmt.Fprintln(w, `</text>`)
}
