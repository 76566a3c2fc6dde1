// Package plot draws small charts as SVG: bars on a logarithmic scale, and
// lines. It knows numbers and words, not what they mean.
package plot

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// The size of a chart, and of what surrounds the drawing.
const (
	width, height            = 960, 420
	left, right, top, bottom = 76, 16, 90, 44
)

// colors can be told apart by most people, also in grey.
var colors = [...]string{"#4d4d4d", "#e69f00", "#56b4e9", "#0072b2", "#009e73", "#d55e00", "#cc79a7"}

func color(series int) string { return colors[series%len(colors)] }

// canvas is an SVG in the making.
type canvas struct{ strings.Builder }

func newCanvas(title, unit string) *canvas {
	c := new(canvas)
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(c, "<title>%s</title>\n", escape(title))
	c.rect(0, 0, width, height, "#ffffff", "")
	c.text(left, 20, "start", fmt.Sprintf("%s (%s)", title, unit), `font-size="15"`)
	return c
}

func (c *canvas) end() string {
	fmt.Fprintln(c, "</svg>")
	return c.String()
}

func (c *canvas) rect(x, y, w, h float64, fill, tip string) {
	fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s">`, x, y, w, h, fill)
	if tip != "" {
		fmt.Fprintf(c, "<title>%s</title>", escape(tip))
	}
	fmt.Fprintln(c, "</rect>")
}

func (c *canvas) line(x1, y1, x2, y2 float64, stroke string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, stroke)
}

func (c *canvas) text(x, y float64, anchor, text, more string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, more, escape(text))
}

// legend names the series, in as many rows as it takes.
func (c *canvas) legend(names []string) {
	const perLetter, space, row = 6.6, 30, 16
	x, y := float64(left), 32.0
	for i, name := range names {
		wide := perLetter*float64(len(name)) + space
		if x+wide > width && x > left {
			x, y = left, y+row
		}
		c.rect(x, y, 10, 10, color(i), "")
		c.text(x+14, y+9, "start", name, "")
		x += wide
	}
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// Value is one bar: its height, and from where to where it varied.
type Value struct {
	Height, Min, Max float64
	// Missing: there is no bar.
	Missing bool
}

// drawn: nothing but what is positive has a logarithm.
func (v Value) drawn() bool { return !v.Missing && v.Height > 0 }

// Bars are groups of bars, one of each series in every group.
type Bars struct {
	Title, Unit string
	Groups      []string
	Series      []string
	// Values by series, then by group.
	Values [][]Value
}

// SVG draws the chart. The scale is logarithmic: only positive heights are drawn.
func (b Bars) SVG() string {
	c := newCanvas(b.Title, b.Unit+", logarithmic")
	c.legend(b.Series)
	low, high := math.Inf(1), math.Inf(-1)
	for _, series := range b.Values {
		for _, v := range series {
			if !v.drawn() {
				continue
			}
			low, high = min(low, v.Height), max(high, v.Height, v.Max)
			if v.Min > 0 {
				low = min(low, v.Min)
			}
		}
	}
	if math.IsInf(low, 0) {
		low, high = 1, 10
	}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if from == to {
		to++
	}
	y := func(v float64) float64 {
		share := (math.Log10(v) - from) / (to - from)
		return height - bottom - share*(height-bottom-top)
	}
	for decade := from; decade <= to; decade++ {
		at := y(math.Pow(10, decade))
		c.line(left, at, width-right, at, "#d0d0d0")
		c.text(left-6, at+4, "end", number(math.Pow(10, decade)), "")
	}
	group := float64(width-left-right) / float64(max(len(b.Groups), 1))
	bar := group * 0.84 / float64(max(len(b.Series), 1))
	for g, name := range b.Groups {
		x := left + group*float64(g)
		c.text(x+group/2, height-bottom+18, "middle", name, "")
		for s := range b.Series {
			v := b.Values[s][g]
			if !v.drawn() {
				continue
			}
			at, base := x+group*0.08+bar*float64(s), y(math.Pow(10, from))
			c.rect(at, y(v.Height), bar*0.9, base-y(v.Height), color(s), fmt.Sprintf("%s, %s: %s", b.Series[s], name, number(v.Height)))
			middle := at + bar*0.45
			if v.Max > v.Min && v.Min > 0 {
				c.line(middle, y(v.Min), middle, y(v.Max), "#000000")
			}
			c.text(0, 0, "start", number(v.Height), fmt.Sprintf(`font-size="9" transform="translate(%.1f %.1f) rotate(-60)"`, middle+2, y(max(v.Height, v.Max))-4))
		}
	}
	return c.end()
}

// Lines are series of points over a common axis, from zero.
type Lines struct {
	Title, Unit string
	XUnit       string
	Series      []string
	X           []float64
	// Values by series, then by X.
	Values [][]float64
}

// SVG draws the chart.
func (l Lines) SVG() string {
	c := newCanvas(l.Title, l.Unit)
	c.legend(l.Series)
	var high, far float64
	for _, series := range l.Values {
		for _, v := range series {
			high = max(high, v)
		}
	}
	for _, v := range l.X {
		far = max(far, v)
	}
	step := roundStep(high)
	high = step * math.Ceil(max(high, step)/step)
	far = max(far, 1e-9)
	y := func(v float64) float64 { return height - bottom - v/high*(height-bottom-top) }
	x := func(v float64) float64 { return left + v/far*(width-left-right) }
	for v := 0.0; v <= high+step/2; v += step {
		c.line(left, y(v), width-right, y(v), "#d0d0d0")
		c.text(left-6, y(v)+4, "end", number(v), "")
	}
	for share := 0.0; share <= 1; share += 0.25 {
		c.text(x(far*share), height-bottom+18, "middle", number(far*share)+" "+l.XUnit, "")
	}
	for s, series := range l.Values {
		var points []string
		for i, v := range series {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(l.X[i]), y(v)))
		}
		fmt.Fprintf(c, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", color(s), strings.Join(points, " "))
	}
	return c.end()
}

// roundStep is 1, 2 or 5 times a power of ten, about a fifth of high.
func roundStep(high float64) float64 {
	if high <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(high/5)))
	for _, f := range []float64{1, 2, 5} {
		if f*power*5 >= high {
			return f * power
		}
	}
	return 10 * power
}

// number is short: 1234567 is 1.23M.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}
