package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"github.com/choreography-go/choreography/cmd/choreo/internal/shop"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// fakeVariable makes this test program, started again, one of the commands or
// services that the demo starts.
const fakeVariable = "CHOREO_TEST_FAKE"

func TestMain(m *testing.M) {
	if os.Getenv(fakeVariable) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "broker" {
		if os.Getenv("FAKE_FAULT") == "broker" {
			go endAfterAnOrder()
		}
		main()
	}
	if err := fakeService(filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// endAfterAnOrder ends this process once the order service has an order.
func endAfterAnOrder() {
	for {
		if _, err := os.Stat(orderMark()); err == nil {
			fmt.Fprintln(os.Stderr, "panic: disk on fire")
			os.Exit(2)
		}
		time.Sleep(time.Millisecond)
	}
}

func orderMark() string { return filepath.Join(os.TempDir(), "an-order-came") }

// shopkeeper does the work of all services in one: for each order it says
// all the events of its flow at once.
type shopkeeper struct {
	client *kgo.Client
	prefix string
	// spoil changes what is said of an order; it may be nil.
	spoil func(n int, events []*kgo.Record) []*kgo.Record

	mu   sync.Mutex
	said map[string]bool
}

func newShopkeeper(brokers, prefix string) (*shopkeeper, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
	return &shopkeeper{client: c, prefix: prefix, said: map[string]bool{}}, err
}

// makeTopics makes what the watcher wants to see.
func (k *shopkeeper) makeTopics(ctx context.Context) error {
	names := []string{"idle"}
	for _, t := range topics {
		names = append(names, k.prefix+t)
	}
	for _, s := range services {
		names = append(names, k.prefix+s+".inbox")
	}
	_, err := kadm.NewClient(k.client).CreateTopics(ctx, 2, 1, nil, names...)
	return err
}

// commit makes a service's group one that hears nothing of the flows.
func (k *shopkeeper) commit(ctx context.Context, service string) error {
	var o kadm.Offsets
	o.AddOffset("idle", 0, 0, -1)
	return kadm.NewClient(k.client).CommitAllOffsets(ctx, k.prefix+service, o)
}

func (k *shopkeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var o shop.Order
	key := r.Header.Get("Idempotency-Key")
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil || o.Customer != key {
		http.Error(w, "no order", http.StatusBadRequest)
		return
	}
	k.mu.Lock()
	again := k.said[key]
	k.said[key] = true
	k.mu.Unlock()
	if !again {
		events := flowOf(k.prefix, key)
		if k.spoil != nil {
			cut := strings.LastIndexByte(key, '-')
			n, _ := strconv.Atoi(key[cut+1:])
			events = k.spoil(n, events)
		}
		if err := k.client.ProduceSync(r.Context(), events...).FirstErr(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]string{"id": "flow-" + key})
}

// flowOf is what the services say of an order.
func flowOf(prefix, ref string) []*kgo.Record {
	cut := strings.LastIndexByte(ref, '-')
	n, _ := strconv.Atoi(ref[cut+1:])
	order, want := shop.Numbered(ref[:cut], n)
	data, _ := json.Marshal(order)
	type event struct{ of, because string }
	placed, paid, reserved := event{check.Placed, ""}, event{check.Authorized, check.Placed}, event{check.Reserved, check.Placed}
	refunded, released := event{check.Refunded, check.ShipFailed}, event{check.Released, check.ShipFailed}
	events := map[check.Outcome][]event{
		check.WasConfirmed: {placed, paid, reserved, {check.Shipped, check.Authorized + "," + check.Reserved}, {check.Confirmed, check.Shipped}},
		check.WasDeclined: {
			placed, reserved, {check.Declined, check.Placed}, {check.Cancelled, check.Declined}, {check.ShipFailed, check.Declined}, {check.Voided, check.ShipFailed}, released,
		},
		check.WasRefunded: {placed, reserved, paid, {check.ShipFailed, check.Authorized}, refunded, released, {check.Cancelled, check.Refunded}},
		check.WasShort: {
			placed, paid, {check.Rejected, check.Placed}, {check.ShipFailed, check.Rejected}, refunded, {check.Cancelled, check.Refunded}, released,
		},
	}[want]
	topics := map[string]string{"order": "orders", "payment": "payments", "stock": "stock", "shipment": "shipments"}
	var all []*kgo.Record
	for i, e := range events {
		t := e.of
		id := ref + "/" + t
		r := &kgo.Record{Topic: prefix + topics[strings.Split(t, ".")[2]], Key: []byte("flow-" + ref), Value: data}
		for k, v := range map[string]string{
			"ce_specversion": "1.0", "ce_id": id, "ce_source": "/" + r.Topic, "ce_type": t, "ce_correlationid": "flow-" + ref,
			"ce_time": time.Now().Add(time.Duration(i) * time.Millisecond).UTC().Format(time.RFC3339Nano), "ce_choreoservice": "fake",
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
		if i > 0 {
			var causes []string
			for c := range strings.SplitSeq(e.because, ",") {
				causes = append(causes, ref+"/"+c)
			}
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_causationids", Value: []byte(strings.Join(causes, ","))})
		}
		all = append(all, r)
	}
	return all
}

// fakeService is a service binary as the demo knows it: topics --apply, /readyz,
// an end on SIGTERM; order's takes orders. What FAKE_FAULT names goes wrong.
func fakeService(name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fault := os.Getenv("FAKE_FAULT")
	k, err := newShopkeeper(os.Getenv("KAFKA_BROKERS"), os.Getenv("TOPIC_PREFIX"))
	if err != nil {
		return err
	}
	if len(os.Args) > 1 && os.Args[1] == "topics" {
		if fault == "topics" {
			return fmt.Errorf("%s: no right to make topics", name)
		}
		return k.makeTopics(ctx)
	}
	if err := k.commit(ctx, name); err != nil {
		return err
	}
	fmt.Println(name, "runs as", os.Getenv("INSTANCE_ID"))
	ended := make(chan error, 2)
	serve := func(addr string, h http.Handler) {
		go func() { ended <- http.ListenAndServe(addr, h) }()
	}
	serve(os.Getenv("ADMIN_ADDR"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || fault == "never-ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, "restoring")
		}
	}))
	if name == "order" {
		serve(os.Getenv("HTTP_ADDR"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if fault == "crash" {
				fmt.Println("panic: out of luck")
				os.Exit(2)
			}
			if fault == "broker" {
				_ = os.WriteFile(orderMark(), nil, 0o600)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			k.ServeHTTP(w, r)
		}))
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}
