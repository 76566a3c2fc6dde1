package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind says what kind of problem there is.
type Kind string

// The kinds of problems.
const (
	NotSaid     Kind = "not_said"     // a type is heard and nobody says it
	NeverJoined Kind = "never_joined" // a step joins events, and nobody says one of the halves
	NotHeard    Kind = "not_heard"    // a type is said, is no outcome, and nobody hears it
	Topic       Kind = "topic"        // a type is said on one topic and heard on another
	ContentType Kind = "content_type" // a type is said in one encoding and heard in another
	Field       Kind = "field"        // a field that is read is not said, or not so
	Twice       Kind = "twice"        // two contracts are of the same service
)

// Problem is one way in which contracts do not fit together. Service is the one
// that breaks.
type Problem struct {
	Kind    Kind   `json:"kind"`
	Service string `json:"service"`
	// Names are the steps, reactions and states concerned.
	Names []string `json:"names,omitempty"`
	Type  string   `json:"type,omitempty"`
	// Field is the path of the field in the payload, such as items[].price.
	Field string `json:"field,omitempty"`
	// Other is the service that says what does not fit.
	Other string `json:"other,omitempty"`
	// Detail says what is wrong, as a clause.
	Detail string `json:"detail"`
}

// String is the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Service)
	if len(p.Names) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(p.Names, ", "))
	}
	if p.Type != "" {
		fmt.Fprintf(&b, ": %s", p.Type)
	}
	if p.Field != "" {
		fmt.Fprintf(&b, ": field %s", p.Field)
	}
	return b.String() + ": " + p.Detail
}

// Check finds where contracts do not fit together, in a fixed order; none means
// that they fit. Each type that is heard must be said by someone, on the same
// topic, in the same content type and with a schema that fits (below). Of each
// half of a join some type must be said, or the step never runs. Each type that is said must be heard by someone, unless it is an outcome. What systems
// outside the contracts say or hear is therefore reported too: filter by Kind and
// Type what they answer for.
//
// A said schema fits a heard one if the hearer can decode whatever is said into
// what it expects: every field that the hearer requires is among those said; and
// every field of both has a type that fits, down to the elements of arrays and
// maps. A hearer requires each of its fields, except those tagged omitempty or
// omitzero and those that may be null (pointers): who gives a field a place in a
// payload type without saying that it may be missing has code that relies on it.
// (Go fills in a zero value and says nothing; that is how a renamed field
// becomes an order of 0 pieces.) A said field that is sometimes omitted still
// counts as said, because Go omits only zero values. An integer fits a number;
// bounds and string formats of the hearer must be kept by the sayer. Fields that
// only the sayer has are ignored. Where one side is any JSON or has no schema,
// nothing is compared.
func Check(contracts ...Contract) []Problem {
	var all []Problem
	services := map[string]bool{}
	said := map[string][]sayer{}
	heard := map[string]bool{}
	for i := range contracts {
		c := &contracts[i]
		if services[c.Service] {
			all = append(all, Problem{Kind: Twice, Service: c.Service, Detail: "there are two contracts of this service"})
		}
		services[c.Service] = true
		for j := range c.Says {
			said[c.Says[j].Type] = append(said[c.Says[j].Type], sayer{c.Service, &c.Says[j]})
		}
		for _, h := range c.Hears {
			heard[h.Type] = true
		}
	}
	for _, c := range contracts {
		for _, h := range c.Hears {
			about := Problem{Service: c.Service, Type: h.Type, Names: hearers(h.By)}
			if len(said[h.Type]) == 0 {
				all = append(all, about.is(NotSaid, "", "is heard on topic %q and nobody says it", h.Topic))
			}
			for _, s := range said[h.Type] {
				all = append(all, fit(about, &h, s)...)
			}
		}
		for _, j := range c.Joins {
			for i, types := range j.Halves {
				if !slices.ContainsFunc(types, func(t string) bool { return len(said[t]) > 0 }) {
					about := Problem{Service: c.Service, Names: []string{j.Name}, Type: strings.Join(types, " or ")}
					all = append(all, about.is(NeverJoined, "", "is half %d of %d that the step joins and nobody says it, so it never runs", i+1, len(j.Halves)))
				}
			}
		}
		for _, s := range c.Says {
			if !heard[s.Type] && s.Outcome == "" {
				about := Problem{Service: c.Service, Type: s.Type, Names: sayers(s.By)}
				all = append(all, about.is(NotHeard, "", "is said on topic %q, nobody hears it, and it is no outcome", s.Topic))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Other, b.Other),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Field, b.Field))
	})
	return all
}

type sayer struct {
	service string
	said    *Said
}

func (p Problem) is(kind Kind, field, format string, a ...any) Problem {
	p.Kind, p.Field, p.Detail = kind, field, fmt.Sprintf(format, a...)
	return p
}

func fit(about Problem, h *Heard, s sayer) []Problem {
	about.Other = s.service
	var all []Problem
	if h.Topic != s.said.Topic {
		all = append(all, about.is(Topic, "", "is heard on topic %q and %s says it on %q", h.Topic, s.service, s.said.Topic))
	}
	if h.ContentType != s.said.ContentType {
		return append(all, about.is(ContentType, "", "is heard as %q and %s says it as %q", h.ContentType, s.service, s.said.ContentType))
	}
	for _, m := range mismatches(h.Schema, s.said.Schema, "") {
		all = append(all, about.is(Field, m.field, "%s", m.what(s.service)))
	}
	return all
}

func hearers(by []Hearer) []string {
	var names []string
	for _, h := range by {
		names = append(names, h.Name)
	}
	return unique(names)
}

func sayers(by []Sayer) []string {
	var names []string
	for _, s := range by {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return unique(names)
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
