package plot

import (
	"encoding/xml"
	"math"
	"strconv"
	"strings"
	"testing"
)

// element is one of an SVG.
type element struct {
	XMLName xml.Name
	X       float64   `xml:"x,attr"`
	Y       float64   `xml:"y,attr"`
	Width   float64   `xml:"width,attr"`
	Height  float64   `xml:"height,attr"`
	Fill    string    `xml:"fill,attr"`
	Points  string    `xml:"points,attr"`
	Title   string    `xml:"title"`
	Text    string    `xml:",chardata"`
	Rects   []element `xml:"rect"`
	Lines   []element `xml:"polyline"`
	Texts   []element `xml:"text"`
}

func parse(t *testing.T, svg string) element {
	t.Helper()
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Fatalf("not all are numbers:\n%s", svg)
	}
	var e element
	if err := xml.Unmarshal([]byte(svg), &e); err != nil {
		t.Fatalf("%v:\n%s", err, svg)
	}
	return e
}

func TestBarsAreAsHighAsTheirLogarithms(t *testing.T) {
	t.Parallel()
	svg := parse(t, Bars{
		Title: "a < b & c", Unit: "1/s", Groups: []string{"1", "10"}, Series: []string{"x", "y"},
		Values: [][]Value{{{Height: 10, Min: 5, Max: 20}, {Height: 1000, Min: 1000, Max: 1000}}, {{Height: 100, Min: 100, Max: 100}, {Missing: true}}},
	}.SVG())
	heights := map[string]float64{}
	for _, r := range svg.Rects {
		if r.Title != "" {
			heights[r.Title] = r.Height
		}
	}
	if len(heights) != 3 {
		t.Fatalf("bars: %v", heights)
	}
	// The axis begins at 1, so the heights are as 1 to 2 to 3.
	one := heights["x, 1: 10"]
	if one <= 0 || math.Abs(heights["y, 1: 100"]-2*one) > 0.3 || math.Abs(heights["x, 10: 1000"]-3*one) > 0.3 {
		t.Errorf("heights: %v", heights)
	}
	if !strings.HasPrefix(svg.Title, "a < b & c") {
		t.Errorf("title %q", svg.Title)
	}
}

func TestBarsOfOddValues(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]Bars{
		"nothing":       {},
		"only missing":  {Groups: []string{"g"}, Series: []string{"s"}, Values: [][]Value{{{Missing: true}}}},
		"all the same":  {Groups: []string{"g"}, Series: []string{"s"}, Values: [][]Value{{{Height: 10, Min: 10, Max: 10}}}},
		"below one":     {Groups: []string{"g"}, Series: []string{"s"}, Values: [][]Value{{{Height: 0.02, Min: 0.01, Max: 0.3}}}},
		"not positive":  {Groups: []string{"g"}, Series: []string{"s"}, Values: [][]Value{{{Height: 0, Min: 0, Max: 3}}}},
		"many a series": {Groups: []string{"g"}, Series: make([]string, 20), Values: make([][]Value, 20)},
	} {
		if name == "many a series" {
			for i := range b.Values {
				b.Values[i] = []Value{{Height: float64(i + 1), Min: 1, Max: 30}}
			}
		}
		t.Run(name, func(t *testing.T) { parse(t, b.SVG()) })
	}
}

func TestLinesBeginAtZeroAndGoWhereTheyShould(t *testing.T) {
	t.Parallel()
	svg := parse(t, Lines{Title: "t", Unit: "1/s", XUnit: "s", Series: []string{"up"}, X: []float64{0, 1, 2}, Values: [][]float64{{0, 50, 100}}}.SVG())
	if len(svg.Lines) != 1 {
		t.Fatalf("%d lines", len(svg.Lines))
	}
	var ys []float64
	for point := range strings.FieldsSeq(svg.Lines[0].Points) {
		_, y, _ := strings.Cut(point, ",")
		v, err := strconv.ParseFloat(y, 64)
		if err != nil {
			t.Fatal(err)
		}
		ys = append(ys, v)
	}
	if len(ys) != 3 || ys[0] != height-bottom || ys[2] != top || math.Abs(ys[1]-(ys[0]+ys[2])/2) > 0.1 {
		t.Errorf("heights %v, want from %v to %v", ys, height-bottom, top)
	}
	parse(t, Lines{}.SVG())
	parse(t, Lines{Series: []string{"zero"}, X: []float64{0}, Values: [][]float64{{0}}}.SVG())
}

func TestRoundStep(t *testing.T) {
	t.Parallel()
	for high, want := range map[float64]float64{0: 1, 100: 20, 10: 2, 51: 20, 49: 10, 24_000: 5000} {
		if got := roundStep(high); math.Abs(got-want) > 1e-9 {
			t.Errorf("roundStep(%v) is %v, want %v", high, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0.5: "0.5", 12: "12", 1500: "1500", 15_400: "15.4k", 1_234_567: "1.23M"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) is %q, want %q", v, got, want)
		}
	}
}
