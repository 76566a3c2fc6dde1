package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String is the fault as text: its time, kind and target, and then what else is
// set, such as
//
//	12.5s kill payment-1 after=EndTxn nth=2 for=3s
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.At.String())
	b.WriteByte(' ')
	b.WriteString(string(f.Kind))
	if f.Target != "" {
		b.WriteByte(' ')
		b.WriteString(f.Target)
	}
	word := func(key, value string) { b.WriteString(" " + key + "=" + value) }
	if f.Request != "" {
		key := "request"
		if f.When != "" {
			key = string(f.When)
		}
		word(key, f.Request)
	}
	if f.Nth != 0 {
		word("nth", strconv.Itoa(f.Nth))
	}
	if f.Err != "" {
		word("err", f.Err)
	}
	if f.Count != 0 {
		word("count", strconv.Itoa(f.Count))
	}
	if f.Node != 0 {
		word("node", strconv.Itoa(f.Node))
	}
	if f.For != 0 {
		word("for", f.For.String())
	}
	return b.String()
}

// String is the schedule as text, one fault after another with semicolons
// between them: it can stand in a variable of the environment.
func (s Schedule) String() string {
	lines := make([]string, len(s))
	for i, f := range s {
		lines[i] = f.String()
	}
	return strings.Join(lines, "; ")
}

// Parse reads the text of a schedule. Faults end with a semicolon or a line;
// what follows a # up to the end of its line is a remark.
func Parse(text string) (Schedule, error) {
	var s Schedule
	for number, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, one := range strings.Split(line, ";") {
			words := strings.Fields(one)
			if len(words) == 0 {
				continue
			}
			f, err := parse(words)
			if err != nil {
				return nil, fmt.Errorf("schedule, line %d, %q: %w", number+1, strings.TrimSpace(one), err)
			}
			s = append(s, f)
		}
	}
	slices.SortStableFunc(s, func(a, b Fault) int { return int(a.At - b.At) })
	return s, nil
}

func parse(words []string) (Fault, error) {
	var f Fault
	if len(words) < 2 {
		return f, fmt.Errorf("a fault has at least a time and a kind, such as 12.5s cut payment-0")
	}
	at, err := duration("time", words[0])
	if err != nil {
		return f, err
	}
	f.At, f.Kind = at, Kind(words[1])
	if !slices.Contains(Kinds(), f.Kind) {
		return f, fmt.Errorf("there is no kind %q; the kinds are %v", words[1], Kinds())
	}
	for i, word := range words[2:] {
		key, value, pair := strings.Cut(word, "=")
		switch {
		case !pair && i == 0:
			f.Target = word
		case !pair:
			return f, fmt.Errorf("%q is not key=value", word)
		default:
			if err := f.set(key, value); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

func (f *Fault) set(key, value string) (err error) {
	switch key {
	case "request":
		f.Request = value
	case string(Before), string(After):
		f.When, f.Request = Moment(key), value
	case "nth":
		f.Nth, err = number(key, value)
	case "err":
		f.Err = value
	case "count":
		f.Count, err = number(key, value)
	case "node":
		f.Node, err = number(key, value)
	case "for":
		f.For, err = duration(key, value)
	default:
		err = fmt.Errorf("there is no %q; allowed are request, before, after, nth, err, count, node, for", key)
	}
	return err
}

func number(key, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 1e6 {
		return 0, fmt.Errorf("%s is %q: want a number from 0 to 1000000", key, value)
	}
	return n, nil
}

func duration(key, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s is %q: want a duration such as 1.5s", key, value)
	}
	return d, nil
}
