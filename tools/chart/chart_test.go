package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"sluice/tools/chart"
)

func TestChartOfOddValues(t *testing.T) {
	for name, c := range map[string]chart.Chart{
		"empty":  {},
		"number": {Series: []chart.Series{{Points: []chart.Point{{X: 3, Y: 1e9}}, Dots: true}, {Name: "none"}}},
		"inf":    {Series: []chart.Series{{Points: []chart.Point{{X: 1, Y: math.Inf(1)}}}}},
		"names":  {Title: `n"<&>'at`, Categories: []string{"<"}, Series: []chart.Series{{Name: "&", Points: []chart.Point{{Y: 1}}}}, Bars: true},
		"zero":   {Categories: []string{"a"}, Series: []chart.Series{{Points: []chart.Point{{}}}}, Bars: true},
		"gap":    {Categories: []string{"a", "b"}, Series: []chart.Series{{Points: []chart.Point{{1, 1, 1, 1}}}}},
		"marks":  {Subtitle: "<" + strings.Repeat("x", 999), Marks: []chart.Mark{{X: math.Inf(1), Text: "<"}, {X: 1, Text: "one"}}, Series: []chart.Series{{Cross: true, Points: []chart.Point{{X: 1, Y: 1}}}}},
		"log":    {Categories: []string{"a"}, Series: []chart.Series{{Points: []chart.Point{{0, 0, 0, 0}}}}, LogY: true},
		"spread": {Categories: []string{"a"}, Series: []chart.Series{{Points: []chart.Point{{0, 1, 0.001, 12345}}}}, LogY: true},
	} {
		var out bytes.Buffer
		if err := chart.Draw(&out, c); err != nil {
			t.Fatal(err)
		}
		checkSVG(t, name, out.Bytes())
	}
}

func checkSVG(t *testing.T, name string, svg []byte) {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, svg)
		}
		if start, ok := token.(xml.StartElement); ok {
			for _, a := range start.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s: <%s %s=%q>", name, start.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}
