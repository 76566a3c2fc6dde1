package contract

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// SchemaOf describes the JSON that encoding/json makes of a type. Types that
// encode themselves are described as any JSON, or as strings if they encode
// themselves as text; []byte is a base64 string and time.Time a date-time. The
// error says why a type cannot be described: it contains itself, or has fields
// that are no JSON, such as channels.
func SchemaOf(t reflect.Type) (*jsonschema.Schema, error) {
	own := map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time](): {Type: "string", Format: "date-time"},
		reflect.TypeFor[[]byte]():    {Types: []string{"null", "string"}, ContentEncoding: "base64"},
	}
	describeOwn(t, own, map[reflect.Type]bool{})
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: own})
	if err != nil {
		return nil, err
	}
	allowMore(s)
	return s, nil
}

// allowMore takes out that objects have no other properties: they are ignored.
func allowMore(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	for _, p := range s.Properties {
		allowMore(p)
	}
	allowMore(s.Items)
	if s.AdditionalProperties = elements(s); s.AdditionalProperties != nil {
		allowMore(s.AdditionalProperties)
	}
}

// describeOwn finds the types in t that encode themselves.
func describeOwn(t reflect.Type, own map[reflect.Type]*jsonschema.Schema, seen map[reflect.Type]bool) {
	if seen[t] || own[t] != nil {
		return
	}
	seen[t] = true
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		switch {
		case implements[json.Marshaler](t):
			own[t] = &jsonschema.Schema{}
			return
		case implements[encoding.TextMarshaler](t):
			own[t] = &jsonschema.Schema{Type: "string"}
			return
		}
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		own[t] = own[reflect.TypeFor[[]byte]()]
		return
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		describeOwn(t.Elem(), own, seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.Anonymous && (implements[json.Marshaler](f.Type) || implements[encoding.TextMarshaler](f.Type)) {
				continue // its methods are the struct's own, or hidden by them
			}
			if f.IsExported() || f.Anonymous {
				describeOwn(f.Type, own, seen)
			}
		}
	}
}

func implements[I any](t reflect.Type) bool {
	i := reflect.TypeFor[I]()
	return t.Implements(i) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(i)
}

// mismatch is a field of the hearer's that what is said does not fit.
type mismatch struct {
	field      string
	want, said string // said is empty if the field is not said at all
}

func (m mismatch) what(sayer string) string {
	if m.said == "" {
		return fmt.Sprintf("is read as %s and %s does not say it", m.want, sayer)
	}
	return fmt.Sprintf("is read as %s and %s says %s", m.want, sayer, m.said)
}

// mismatches compares the schema of a hearer with that of a sayer.
func mismatches(want, said *jsonschema.Schema, path string) []mismatch {
	if anything(want) || anything(said) {
		return nil
	}
	if !typeFits(want, said) {
		return []mismatch{{path, describe(want), describe(said)}}
	}
	var all []mismatch
	for _, name := range slices.Sorted(maps.Keys(want.Properties)) {
		field := strings.TrimPrefix(path+"."+name, ".")
		w := want.Properties[name]
		s, ok := said.Properties[name]
		if !ok {
			s = elements(said) // of a map any key may be said, but none must
			if requires(want, name) {
				all = append(all, mismatch{field: field, want: describe(w)})
				continue
			}
		}
		all = append(all, mismatches(w, s, field)...)
	}
	if w := elements(want); w != nil {
		if s := elements(said); s != nil {
			all = append(all, mismatches(w, s, path+"{}")...)
		}
		for _, name := range slices.Sorted(maps.Keys(said.Properties)) {
			if _, named := want.Properties[name]; !named {
				all = append(all, mismatches(w, said.Properties[name], strings.TrimPrefix(path+"."+name, "."))...)
			}
		}
	}
	return append(all, mismatches(want.Items, said.Items, path+"[]")...)
}

// anything tells that a schema says nothing of the type.
func anything(s *jsonschema.Schema) bool { return s == nil || len(types(s)) == 0 }

// elements is the schema of a map's values, nil if there are none.
func elements(s *jsonschema.Schema) *jsonschema.Schema {
	if a := s.AdditionalProperties; a != nil && a.Not == nil {
		return a
	}
	return nil
}

// types are the JSON types of a schema, without null: a Go decoder leaves a
// value as it is for null, as it does for a missing field.
func types(s *jsonschema.Schema) []string {
	all := slices.Clone(s.Types)
	if s.Type != "" {
		all = append(all, s.Type)
	}
	return slices.DeleteFunc(all, func(t string) bool { return t == "null" })
}

// requires tells that a hearer relies on a field: see Check.
func requires(s *jsonschema.Schema, name string) bool {
	p := s.Properties[name]
	nullable := p != nil && slices.Contains(p.Types, "null") && !slices.Contains(p.Types, "array") && p.ContentEncoding == ""
	return slices.Contains(s.Required, name) && !nullable
}

func typeFits(want, said *jsonschema.Schema) bool {
	can := types(want)
	for _, t := range types(said) {
		if !slices.Contains(can, t) && (t != "integer" || !slices.Contains(can, "number")) {
			return false
		}
	}
	return (want.Format == "" || want.Format == said.Format) &&
		(want.ContentEncoding == "" || want.ContentEncoding == said.ContentEncoding) &&
		(want.Minimum == nil || said.Minimum != nil && *said.Minimum >= *want.Minimum) &&
		(want.Maximum == nil || said.Maximum != nil && *said.Maximum <= *want.Maximum)
}

// describe names a type for people.
func describe(s *jsonschema.Schema) string {
	if anything(s) {
		return "any JSON"
	}
	text := strings.Join(types(s), " or ")
	if s.Format != "" {
		text += " (" + s.Format + ")"
	}
	if s.ContentEncoding != "" {
		text += " (" + s.ContentEncoding + ")"
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		text += fmt.Sprintf(" from %v to %v", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		text += fmt.Sprintf(" from %v", *s.Minimum)
	case s.Maximum != nil:
		text += fmt.Sprintf(" up to %v", *s.Maximum)
	}
	return text
}
