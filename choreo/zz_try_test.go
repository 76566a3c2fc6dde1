package choreo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestTry(t *testing.T) {
	cl, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	brokers := cl.ListenAddrs()
	name := "svc"
	if os.Getenv("REAL") != "" {
		brokers = []string{os.Getenv("REAL")}
		name = fmt.Sprint("svc", time.Now().UnixNano())
	}
	heard, said, undone, trouble := heard, said, undone, trouble
	heard.Topic += name
	said.Topic += name
	undone.Topic += name
	trouble.Topic += name
	st := &State[out]{Name: "st", When: []Transition[out]{When(heard, func(o *out, i in) { o.ID = i.ID })}}
	svc := NewService(name, Starts(heard), st, Step[in, out]{Name: "act", On: heard, Do: func(ctx context.Context, i in) (out, error) { return out{i.ID + "!"}, nil }, Emit: said,
		Compensate: Undo(undo, undone, trouble)})
	c, _ := kgo.NewClient(kgo.SeedBrokers(brokers...))
	defer c.Close()
	adm := kadm.NewClient(c)
	if _, err := adm.CreateTopics(context.Background(), 8, 1, nil, heard.Topic, said.Topic, trouble.Topic, name+".inbox", name+".journal", name+".dlq"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	go func() { done <- svc.Run(ctx, Config{Brokers: brokers, InstanceID: "i0", Logger: log}) }()
	for svc.Ready() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	t0 := time.Now()
	for i := range 10 {
		flow, err := svc.Publish(ctx, heard.New(in{"x"}), IdempotencyKey(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		v, err := st.Await(ctx, flow, func(o out) bool { return o.ID == "x" })
		t.Log(flow, v, err, time.Since(t0))
		t0 = time.Now()
	}
	stop()
	t.Log(<-done, time.Since(t0))
}
