package offsets

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func encode(offset int64, spans []span) string {
	e := newEncoder(nil, offset)
	for _, s := range spans {
		e.finished(s)
	}
	return e.end()
}

// The format is durable: a successor of another version reads it.
func TestFormatIsDurable(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset int64
		spans  []span
		want   string
	}{
		{"none", 5, nil, ""},
		{"one", 5, []span{{6, 7}}, "1EDLgg"},
		{"no digit to spare", 0, []span{{1, 2}, {3, 4}, {5, 6}}, "1ecLxAA"},
		{"long ranges", 1_000_000_000, []span{{1_000_001_000, 1_001_000_000}, {1_001_000_002, 1_001_000_010}}, "1iwm2_6_97u-_6f9p"},
		{"as far as it goes", 0, []span{{1, 2}, {math.MaxInt64 - 1, math.MaxInt64}}, "1adjew7___________________H"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := encode(c.offset, c.spans)
			if got != c.want {
				t.Errorf("encoded as %q, want %q", got, c.want)
			}
			spans, err := decode(c.offset, got)
			if err != nil || !equal(spans, c.spans) {
				t.Errorf("decoded as %v, %v", spans, err)
			}
		})
	}
}

func sealed(offset int64, body string) string {
	sum := checksum(offset, []byte(body))
	return string(version) + string(sum[:]) + body
}

func TestRefusedMetadata(t *testing.T) {
	good := encode(5, []span{{6, 7}, {9, 100}})
	for _, c := range []struct {
		name, metadata, says string
		offset               int64
	}{
		{"newer version", "2" + good[1:], "newer version or of another program", 5},
		{"of another program", "consumer-1 2026-10-12", "newer version", 5},
		{"with another offset", good, "checksum", 6},
		{"damaged", good[:6] + "_" + good[7:], "checksum", 5},
		{"cut off", good[:len(good)-1], "checksum", 5},
		{"header only", "1AAAA", "length", 5},
		{"version only", "1", "length", 5},
		{"huge", "1" + strings.Repeat("A", 1<<20), "length", 5},
		{"foreign character", sealed(5, "A\n"), "character", 5},
		{"odd number of ranges", sealed(5, "A"), "middle", 5},
		{"spare digits only", sealed(5, "gqq"), "middle", 5},
		{"ends in a range", sealed(5, string(alphabet[0b11_00_00])), "middle", 5},
		{"leading zero", sealed(5, string(alphabet[0b00_00_10])), "never used", 5},
		{"range of 2^63", sealed(5, strings.Repeat(string(alphabet[0b11_11_11]), 21)+"F"), "too long", 5},
		{"past the last offset", good, "", math.MaxInt64 - 50},
		{"past the last offset, sealed", sealed(math.MaxInt64-1, good[headerLen:]), "beyond the last", math.MaxInt64 - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.offset, c.metadata)
			if !errors.Is(err, ErrMetadata) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want ErrMetadata that says %q", err, c.says)
			}
			if !strings.Contains(err.Error(), "committing the offset without metadata") {
				t.Errorf("does not say what decides: %v", err)
			}
			if len(err.Error()) > 600 || strings.Contains(err.Error(), "\n") {
				t.Errorf("shows too much of what it read: %q", err)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Custom(func(t *rapid.T) int64 {
			return rapid.Int64Range(1, 1<<rapid.IntRange(0, 52).Draw(t, "bits")).Draw(t, "length")
		})
		offset := rapid.Int64Range(0, 1<<40).Draw(t, "offset")
		var spans []span
		bound := 0
		for at := offset; len(spans) < 200 && rapid.IntRange(0, 20).Draw(t, "more") > 0; {
			u, f := length.Draw(t, "unfinished"), length.Draw(t, "finished")
			spans = append(spans, span{at + u, at + u + f})
			bound += digits(u) + digits(f)
			at += u + f
		}
		text := encode(offset, spans)
		if len(spans) > 0 && len(text) != headerLen+(bound+digitsPerChar-1)/digitsPerChar {
			t.Fatalf("%d bytes for %d digits", len(text), bound)
		}
		got, err := decode(offset, text)
		if err != nil || !equal(got, spans) {
			t.Fatalf("%v decoded as %v, %v", spans, got, err)
		}
	})
}

func TestDigitsAreSubadditive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1<<rapid.IntRange(0, 61).Draw(t, "bits"))
		a, b := n.Draw(t, "a"), n.Draw(t, "b")
		if digits(a+b) > digits(a)+digits(b) {
			t.Fatalf("%d > %d + %d", digits(a+b), digits(a), digits(b))
		}
	})
	if got := digits(math.MaxInt64); got != maxStep {
		t.Errorf("a range may have %d digits", got)
	}
}

// FuzzDecode gives the decoder anything, with a right checksum where sealed so
// that the rest is reached: it must not panic, must bound what it allocates, and
// must accept only what would be written.
func FuzzDecode(f *testing.F) {
	f.Add(int64(5), encode(5, []span{{6, 7}, {9, 100}}), false)
	f.Add(int64(0), "ABCDEF", true)
	f.Add(int64(1<<62), strings.Repeat("_", 30), true)
	f.Add(int64(0), strings.Repeat("A", 4096), true)
	f.Fuzz(func(t *testing.T, offset int64, metadata string, seal bool) {
		if offset < 0 {
			t.Skip()
		}
		if seal {
			metadata = sealed(offset, metadata)
		}
		spans, err := decode(offset, metadata)
		if err != nil {
			if !errors.Is(err, ErrMetadata) {
				t.Fatalf("not an ErrMetadata: %v", err)
			}
			return
		}
		if cap(spans) > 4*len(metadata) {
			t.Fatalf("%d spans allocated for %d bytes", cap(spans), len(metadata))
		}
		if again := encode(offset, spans); again != metadata {
			t.Fatalf("%q is accepted, but would be written as %q", metadata, again)
		}
		tr, err := New(offset, metadata)
		if err != nil {
			t.Fatal(err)
		}
		if c := tr.Commit(); c.Offset != offset || c.Metadata != metadata {
			t.Fatalf("commits %+v, was %d %q", c, offset, metadata)
		}
	})
}
