package contract

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func event(t *testing.T, payload any) Event {
	t.Helper()
	s, err := SchemaOf(reflect.TypeOf(payload))
	if err != nil {
		t.Fatal(err)
	}
	return Event{Type: "t", Topic: "topic", ContentType: "application/json", Schema: s}
}

type ownJSON struct{ A int }

func (*ownJSON) MarshalJSON() ([]byte, error) { return []byte(`"x"`), nil }

type ownText [2]byte

func (ownText) MarshalText() ([]byte, error) { return []byte("x"), nil }

type node struct{ Next []node }

func TestFields(t *testing.T) {
	type item struct {
		Name  string
		Price int64
	}
	for _, c := range []struct {
		name       string
		want, said any
		problems   []string // field and detail, after "other says"
	}{
		{"the same", item{}, item{}, nil},
		{"more is said", struct{ Name string }{}, item{}, nil},
		{"nothing is read", struct{}{}, item{}, nil},
		{"a field is missing", item{}, struct{ Name string }{}, []string{"Price: is read as integer and other does not say it"}},
		{"an optional one is missing", struct {
			A string `json:"a,omitempty"`
			B int    `json:"b,omitzero"`
			C *bool  `json:"c"`
		}{}, struct{}{}, nil},
		{"an array is not optional", struct{ A []int }{}, struct{}{}, []string{"A: is read as array and other does not say it"}},
		{"bytes are not optional", struct{ A []byte }{}, struct{}{}, []string{"A: is read as string (base64) and other does not say it"}},
		{"an optional one is said otherwise", struct{ C *bool }{}, struct{ C string }{}, []string{"C: is read as boolean and other says string"}},
		{"it is sometimes omitted", struct{ A string }{}, struct {
			A string `json:",omitempty"`
		}{}, nil},
		{"it may be null", struct{ A string }{}, struct{ A *string }{}, nil},
		{"another type", struct{ A string }{}, struct{ A int }{}, []string{"A: is read as string and other says integer"}},
		{"an integer as a number", struct{ A float64 }{}, struct{ A int }{}, nil},
		{"a number as an integer", struct{ A int }{}, struct{ A float64 }{}, []string{"A: is read as integer and other says number"}},
		{"less range", struct{ A int8 }{}, struct{ A int }{}, []string{"A: is read as integer from -128 to 127 and other says integer"}},
		{"sign", struct{ A uint }{}, struct{ A int }{}, []string{"A: is read as integer from 0 and other says integer"}},
		{"more range", struct{ A int }{}, struct{ A uint8 }{}, nil},
		{"a time", struct{ A time.Time }{}, struct{ A time.Time }{}, nil},
		{"a time as text", struct{ A string }{}, struct{ A time.Time }{}, nil},
		{"text as a time", struct{ A time.Time }{}, struct{ A string }{}, []string{"A: is read as string (date-time) and other says string"}},
		{"bytes are base64", struct{ A []byte }{}, struct{ A string }{}, []string{"A: is read as string (base64) and other says string"}},
		{"types with JSON of their own", struct{ A int }{}, struct{ A ownJSON }{}, nil},
		{"types with text of their own", struct{ A string }{}, struct{ A ownText }{}, nil},
		{"any", struct{ A any }{}, struct{ A int }{}, nil},
		{"any is said", struct{ A int }{}, struct{ A json.RawMessage }{}, nil},
		{"in depth", struct{ Items []item }{}, struct {
			Items []struct{ Name, Price string }
		}{}, []string{"Items[].Price: is read as integer and other says string"}},
		{"in depth of arrays", [][]item{}, [][]struct{ Name string }{}, []string{"[][].Price: is read as integer and other does not say it"}},
		{"in depth of objects", struct{ A struct{ B struct{ C int } } }{}, struct{ A struct{ B struct{} } }{}, []string{"A.B.C: is read as integer and other does not say it"}},
		{"maps", map[string]int{}, map[string]string{}, []string{"{}: is read as integer and other says string"}},
		{"a map of what is an object", map[string]int{}, struct{ A, B string }{}, []string{"A: is read as integer and other says string", "B: is read as integer and other says string"}},
		{"an object of what is a map", struct{ A int }{}, map[string]int{}, []string{"A: is read as integer and other does not say it"}},
		{"an array for an object", item{}, []item{}, []string{": is read as object and other says array"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems := Check(
				Contract{Service: "hearer", Hears: []Heard{{Event: event(t, c.want), By: []Hearer{{Name: "step", Role: Runs}}}}},
				Contract{Service: "other", Says: []Said{{Event: event(t, c.said)}}},
			)
			var got []string
			for _, p := range problems {
				if p.Kind != Field || p.Service != "hearer" || p.Other != "other" || p.Type != "t" || strings.Join(p.Names, "") != "step" {
					t.Errorf("got %+v", p)
				}
				got = append(got, p.Field+": "+p.Detail)
			}
			if strings.Join(got, "\n") != strings.Join(c.problems, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.problems, "\n"))
			}
		})
	}
}

func TestPromises(t *testing.T) {
	payload := event(t, struct{ ID string }{})
	with := func(change func(*Event)) Event { e := payload; change(&e); return e }
	hears := func(e Event) Contract {
		return Contract{Service: "b", Hears: []Heard{{Event: e, By: []Hearer{{"ship", Runs}, {"bill", Compensates}, {"ship", Cancels}}}}}
	}
	says := func(service string, e Event, outcome string) Contract {
		return Contract{Service: service, Says: []Said{{Event: e, Outcome: outcome, By: []Sayer{{"pay", "did"}, {"", "started"}}}}}
	}
	for _, c := range []struct {
		name      string
		contracts []Contract
		want      []string
	}{
		{"none", nil, nil},
		{"they fit", []Contract{hears(payload), says("a", payload, "")}, nil},
		{"it hears itself", []Contract{{Service: "a", Hears: hears(payload).Hears, Says: says("a", payload, "").Says}}, nil},
		{"nobody says it", []Contract{hears(payload)}, []string{`b (bill, ship): t: is heard on topic "topic" and nobody says it`}},
		{"nobody hears it", []Contract{says("a", payload, "")}, []string{`a (pay): t: is said on topic "topic", nobody hears it, and it is no outcome`}},
		{"nobody hears the outcome", []Contract{says("a", payload, "failed")}, nil},
		{"another topic", []Contract{hears(payload), says("a", with(func(e *Event) { e.Topic = "elsewhere" }), "")},
			[]string{`b (bill, ship): t: is heard on topic "topic" and a says it on "elsewhere"`}},
		{"another encoding", []Contract{hears(payload), says("a", with(func(e *Event) { e.ContentType, e.Schema = "x/y", nil }), "")},
			[]string{`b (bill, ship): t: is heard as "application/json" and a says it as "x/y"`}},
		{"no schema", []Contract{hears(payload), says("a", with(func(e *Event) { e.Schema = nil }), "")}, nil},
		{"one of two does not fit", []Contract{hears(payload), says("a", payload, ""), says("c", event(t, struct{}{}), "")},
			[]string{`b (bill, ship): t: field ID: is read as string and c does not say it`}},
		{"one service twice", []Contract{says("a", payload, "succeeded"), says("a", payload, "succeeded")}, []string{"a: there are two contracts of this service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range Check(c.contracts...) {
				got = append(got, p.String())
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestTypesThatCannotBeDescribed(t *testing.T) {
	for _, v := range []any{node{}, struct{ C chan int }{}, struct{ M map[int]struct{ F func() } }{}} {
		if s, err := SchemaOf(reflect.TypeOf(v)); err == nil {
			t.Errorf("%T is %v", v, s)
		}
	}
}

func TestVersions(t *testing.T) {
	var c Contract
	if err := json.Unmarshal([]byte(`{"version":1,"service":"a","tasks":8,"joins":[],"hears":[{"type":"t","by":[{"name":"n","role":"joins"}]}],"says":[]}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Service != "a" || c.Tasks != 8 || c.Hears[0].Type != "t" || c.Hears[0].By[0].Role != "joins" {
		t.Errorf("got %+v", c)
	}
	for _, s := range []string{`{"version":2,"service":"a"}`, `{"service":"a"}`, `[]`} {
		if err := json.Unmarshal([]byte(s), &c); err == nil {
			t.Errorf("%s was read", s)
		}
	}
	b, err := json.Marshal(Contract{Service: "a"})
	if want := `{"version":1,"service":"a","tasks":0,"hears":[],"says":[]}`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}

// A step that joins what nobody says would wait for ever.
func TestAJoinWhoseHalfNobodySays(t *testing.T) {
	payload := event(t, struct{ ID string }{})
	of := func(typ string) Event { e := payload; e.Type = typ; return e }
	heard := func(types ...string) (all []Heard) {
		for _, typ := range types {
			all = append(all, Heard{Event: of(typ), By: []Hearer{{"ship", Joins}}})
		}
		return all
	}
	shipping := Contract{Service: "shipping", Hears: heard("paid", "reserved", "reserved.v2"),
		Joins: []Join{{Name: "ship", Halves: [][]string{{"paid"}, {"reserved", "reserved.v2"}}, Emits: "shipped"}}}
	says := func(service, typ string) Contract {
		return Contract{Service: service, Says: []Said{{Event: of(typ), By: []Sayer{{"x", "did"}}}}}
	}
	for _, c := range []struct {
		name      string
		contracts []Contract
		want      []string
	}{
		{"both are said", []Contract{says("payment", "paid"), says("stock", "reserved")}, nil},
		{"by another version", []Contract{says("payment", "paid"), says("stock", "reserved.v2")}, nil},
		{"one is not", []Contract{says("payment", "paid")}, []string{
			"shipping (ship): reserved or reserved.v2: is half 2 of 2 that the step joins and nobody says it, so it never runs"}},
		{"neither is", nil, []string{
			"shipping (ship): paid: is half 1 of 2 that the step joins and nobody says it, so it never runs",
			"shipping (ship): reserved or reserved.v2: is half 2 of 2 that the step joins and nobody says it, so it never runs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range Check(append(c.contracts, shipping)...) {
				if p.Kind == NeverJoined {
					got = append(got, p.String())
				}
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	var hostile Contract
	if err := json.Unmarshal([]byte(`{"version":1,"service":"x","tasks":1,"hears":[],"says":[],"joins":[{"name":"a","halves":[[]]}]}`), &hostile); err != nil {
		t.Fatal(err)
	}
	if problems := Check(hostile); len(problems) != 1 || problems[0].Kind != NeverJoined {
		t.Errorf("a half of no type: %v", problems)
	}
}
