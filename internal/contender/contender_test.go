package contender

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

func TestMarksAreToldOnceEach(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	m := newMeter([]int64{250, 10, 600, 2000}, &out)
	m.Commits = func() (int64, int64) { return 7, 42 }
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 250 {
				m.Add(1)
			}
		})
	}
	wg.Wait()
	d := json.NewDecoder(strings.NewReader(out.String()))
	for _, mark := range []int64{10, 250, 600} {
		var u Usage
		if err := d.Decode(&u); err != nil {
			t.Fatalf("the usage at %d: %v", mark, err)
		}
		if u.Handled < mark || u.Mallocs == 0 || u.Commits != 7 || u.Committed != 42 || u.At.IsZero() {
			t.Errorf("the usage at %d: %+v", mark, u)
		}
	}
	if err := d.Decode(&Usage{}); !errors.Is(err, io.EOF) {
		t.Errorf("after the marks that were reached: %v, want no more", err)
	}
}

func TestABatchMayCrossSeveralMarks(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	m := newMeter([]int64{1, 2, 3}, &out)
	m.Add(1000)
	m.Add(1000)
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("%d lines for three marks:\n%s", got, out.String())
	}
}

func TestServeTellsWhenAskedAndStopsAtTheEndOfItsInput(t *testing.T) {
	t.Parallel()
	in, ask := io.Pipe()
	told, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- serve(t.Context(), in, out, func(ctx context.Context, s Setup, m *Meter) error {
			if s.Name != "x" || s.PerCommit != 10 {
				t.Errorf("setup: %+v", s)
			}
			m.Add(5)
			<-ctx.Done()
			return errors.New("stopped")
		})
	}()
	_, _ = io.WriteString(ask, `{"Name":"x","PerCommit":10,"Marks":[5]}`+"\n")
	lines := bufio.NewScanner(told)
	tells := func(why string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), `"Handled":5`) {
			t.Fatalf("%s: told %q", why, lines.Text())
		}
	}
	tells("at the mark")
	_, _ = io.WriteString(ask, "\n")
	tells("when asked")
	ask.Close()
	if err := <-ended; err == nil || err.Error() != "stopped" {
		t.Errorf("serve returned %v", err)
	}
}

func TestServeWithoutASetup(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "{\n"} {
		err := serve(t.Context(), strings.NewReader(in), io.Discard, func(context.Context, Setup, *Meter) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "read the setup") {
			t.Errorf("input %q: %v", in, err)
		}
	}
}
