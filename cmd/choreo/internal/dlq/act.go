package dlq

import (
	"context"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Item is a letter, and what is or was done with it.
type Item struct {
	deadletter.Letter
	Record *kgo.Record      // nil unless it was shown
	Mark   *deadletter.Mark // what has become of it, if something has
	// Left says why nothing was done.
	Left error
}

// Show reads letters in full, at most limit of them. It returns how many there
// are. Settled ones are left out unless they are asked for, or named themselves.
func (x *Index) Show(ctx context.Context, settled bool, limit int, each func(Item) error) (int, error) {
	var shown []found
	total := 0
	for f := range x.inOrder {
		if f.now != waiting && !settled && !f.itself {
			continue
		}
		if total++; len(shown) < limit {
			shown = append(shown, f)
		}
	}
	return total, x.again(ctx, shown, func(f found, rec, mark *kgo.Record) error {
		l, _ := deadletter.ReadLetter(rec)
		i := Item{Letter: l, Record: rec}
		if mark != nil && f.now != waiting {
			m, _ := deadletter.ReadMark(mark)
			i.Mark = &m
		}
		return each(i)
	})
}

// SettledError is why nothing is done with a letter of which something has
// become already.
type SettledError struct{ deadletter.Mark }

// Error says what has become of it.
func (e *SettledError) Error() string {
	return fmt.Sprintf("it is settled: %s at %s by %s", e.Outcome, e.Time.Format(time.RFC3339), e.By)
}

// Acted counts what was done.
type Acted struct {
	Done    int `json:"done"`
	Left    int `json:"left"`    // letters with which nothing could be done
	Settled int `json:"settled"` // letters that were settled before
}

// roundBytes is how much is sent at once: less than any topic takes in a batch,
// so that only a letter that is too large by itself can be refused for its size.
const roundBytes = 512 << 10

// ReplayOptions say how to replay.
type ReplayOptions struct {
	DryRun bool
	// Forgotten runs steps though nothing is remembered of their runs.
	Forgotten bool
}

// Replay sends the letters again, in their order, and tells each of them after
// it was sent. It ends at the first that cannot be sent.
func (x *Index) Replay(ctx context.Context, o ReplayOptions, each func(Item) error) (Acted, error) {
	return x.write(ctx, o.DryRun, each, func(l *deadletter.Letter, rec *kgo.Record) (*kgo.Record, error) {
		return l.Replay(rec, x.topic.Inbox(), o.Forgotten)
	})
}

// Discard marks the letters as put aside, by whom and why.
func (x *Index) Discard(ctx context.Context, by, why string, dryRun bool, each func(Item) error) (Acted, error) {
	return x.write(ctx, dryRun, each, func(l *deadletter.Letter, rec *kgo.Record) (*kgo.Record, error) {
		m := deadletter.Mark{Letter: l.At, Outcome: deadletter.Discarded, Time: time.Now(), By: by, Why: why}
		return m.Record(x.topic.Name(), rec.Key), nil
	})
}

// write makes a record of each letter and sends it, several at a time.
func (x *Index) write(ctx context.Context, dryRun bool, each func(Item) error, record func(*deadletter.Letter, *kgo.Record) (*kgo.Record, error)) (Acted, error) {
	var done Acted
	s, err := x.topic.topic().Sender()
	if err != nil {
		return done, err
	}
	defer s.Close()
	var round []Item
	var records []*kgo.Record
	size := int64(0)
	flush := func() error {
		if !dryRun {
			if err := s.Send(ctx, records); err != nil {
				return fmt.Errorf("after %d letters, at %v: %w; when that is mended do the same again: what is done already is recognized", done.Done, round[0].At, err)
			}
		}
		for _, i := range round {
			done.Done++
			if err := each(i); err != nil {
				return err
			}
		}
		round, records, size = nil, nil, 0
		return nil
	}
	err = x.act(ctx, &done, func(i Item, rec *kgo.Record) error {
		out, err := record(&i.Letter, rec)
		if err != nil {
			done.Left++
			i.Left = err
			return each(i)
		}
		if len(round) > 0 && size+i.Size > roundBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		round, records, size = append(round, i), append(records, out), size+i.Size
		return nil
	}, each)
	if err == nil && len(round) > 0 {
		err = flush()
	}
	return done, err
}

// act calls do with each letter that is not settled, and tells of one that is if
// it was named itself.
func (x *Index) act(ctx context.Context, done *Acted, do func(Item, *kgo.Record) error, tell func(Item) error) error {
	var letters []found
	for f := range x.inOrder {
		if f.now == waiting || f.itself {
			letters = append(letters, f)
		}
	}
	done.Settled = x.Settled()
	return x.again(ctx, letters, func(f found, rec, mark *kgo.Record) error {
		l, _ := deadletter.ReadLetter(rec)
		i := Item{Letter: l}
		if f.now == waiting {
			return do(i, rec)
		}
		m := deadletter.Mark{Outcome: states[f.now]}
		if mark != nil {
			m, _ = deadletter.ReadMark(mark)
		}
		i.Left = &SettledError{m}
		return tell(i)
	})
}
