package integration

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// world is what one test has for itself: a prefix for topics and groups, the
// processes that it starts, what it feeds and what it reads.
type world struct {
	t       *testing.T
	cluster *cluster
	prefix  string
	dir     string
	notes   string        // see note
	session time.Duration // session timeout of the services
	client  *kgo.Client   // for the administration
	admin   *kadm.Client
	feeder  *feeder
	reader  *reader
	expects func(jobs, extras []fed) map[string][]fed // what must have been said, by topic

	mu        sync.Mutex
	processes []*process
	addresses map[string]string
}

func adminOf(cl *kgo.Client) *kadm.Client { return kadm.NewClient(cl) }

// newWorld creates the topics of work and ship, and begins to read what they say.
func newWorld(t *testing.T, c *cluster) *world {
	t.Helper()
	w := newSilentWorld(t, c, "work", "ship")
	w.reader = newReader(w)
	return w
}

// newSilentWorld creates the topics of the services, and reads nothing.
func newSilentWorld(t *testing.T, c *cluster, names ...string) *world {
	t.Helper()
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	dir := t.ArtifactDir()
	w := &world{
		t: t, cluster: c, prefix: "it" + hex.EncodeToString(b) + ".", dir: dir, notes: filepath.Join(dir, "notes"),
		session: 6 * time.Second, addresses: map[string]string{}, expects: expectations,
	}
	var err error
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.MetadataMinAge(50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	w.admin = adminOf(w.client)
	t.Cleanup(w.close)
	for _, n := range names {
		w.createTopics(services[n]())
	}
	w.feeder = newFeeder(w)
	return w
}

func (w *world) config() choreo.Config {
	return choreo.Config{Brokers: w.cluster.brokers, TopicPrefix: w.prefix, InstanceID: "topics"}
}

func (w *world) createTopics(s *choreo.Service) {
	w.t.Helper()
	if err := s.CreateTopics(timeout(w.t, time.Minute), w.config()); err != nil {
		w.t.Fatalf("create the topics of %s: %v", s.Name(), err)
	}
	w.awaitTopics()
}

// awaitTopics returns when every broker has heard of every topic of the world
// and of its leaders: a service that asks one that has not refuses to run.
func (w *world) awaitTopics() {
	w.t.Helper()
	ctx := timeout(w.t, 30*time.Second)
	if _, err := w.admin.ListBrokers(ctx); err != nil {
		w.t.Fatalf("list the brokers: %v", err)
	}
	within(w.t, 30*time.Second, "every broker knows every topic", func() bool {
		all, known := map[string]int{}, w.client.DiscoveredBrokers()
		for _, b := range known {
			resp, err := b.Request(ctx, kmsg.NewPtrMetadataRequest()) // of all topics
			if err != nil {
				return false
			}
			for _, t := range resp.(*kmsg.MetadataResponse).Topics {
				if t.Topic != nil && strings.HasPrefix(*t.Topic, w.prefix) && !slices.ContainsFunc(t.Partitions, leaderless) {
					all[*t.Topic]++
				}
			}
		}
		for _, n := range all {
			if n < len(known) {
				return false
			}
		}
		return len(all) > 0
	})
}

func leaderless(p kmsg.MetadataResponseTopicPartition) bool { return p.ErrorCode != 0 || p.Leader < 0 }

func (w *world) close() {
	if w.t.Failed() {
		w.showTransactions()
		w.showTrouble()
	}
	w.stopAll()
	if w.feeder != nil {
		w.feeder.client.Close()
	}
	if w.reader != nil {
		w.reader.close()
	}
	if w.cluster.external {
		w.deleteAll()
	}
	w.client.Close()
}

// deleteAll leaves brokers that are not ours as they were.
func (w *world) deleteAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	all, err := w.admin.ListTopics(ctx)
	if err == nil {
		names := slices.DeleteFunc(all.Names(), func(n string) bool { return !strings.HasPrefix(n, w.prefix) })
		_, err = w.admin.DeleteTopics(ctx, names...)
	}
	if err != nil {
		w.t.Logf("the topics %s* are left over: %v", w.prefix, err)
	}
	_, _ = w.admin.DeleteGroups(ctx, w.prefix+"work", w.prefix+"ship", w.prefix+"keep", w.prefix+"clerk") // those of them that exist
}

func (w *world) topic(name string) string { return w.prefix + name }

// notedRuns counts the calls of handlers, by what they did for which job.
func (w *world) notedRuns() map[string]int {
	w.t.Helper()
	f, err := os.Open(w.notes)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	n := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		n[s.Text()]++
	}
	return n
}

// begin starts one process of each service and returns when they are ready.
func (w *world) begin() (work, ship *process) {
	w.t.Helper()
	work, ship = w.start("work", "work-0"), w.start("ship", "ship-0")
	work.awaitReady(30 * time.Second)
	ship.awaitReady(30 * time.Second)
	return work, ship
}

// openTransactions lists the ids of the service's transactions that are open.
func (w *world) openTransactions(service string) []string {
	w.t.Helper()
	all, err := w.admin.ListTransactions(timeout(w.t, 10*time.Second), nil, []string{"Ongoing"})
	if err != nil {
		w.t.Fatalf("list transactions: %v", err)
	}
	return slices.DeleteFunc(all.TransactionalIDs(), func(id string) bool { return !strings.HasPrefix(id, w.prefix+service+"/") })
}

// showTransactions tells, after a failure, what the brokers know of the
// world's transactions: those that are not complete, and the partitions that
// have one open.
func (w *world) showTransactions() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var ids []string
	listed, err := w.admin.ListTransactions(ctx, nil, nil)
	for _, id := range listed.TransactionalIDs() {
		if strings.HasPrefix(id, w.prefix) {
			ids = append(ids, id)
		}
	}
	if err == nil && len(ids) > 0 {
		var described kadm.DescribedTransactions
		described, err = w.admin.DescribeTransactions(ctx, ids...)
		for _, d := range described.Sorted() {
			w.t.Logf("transactional id %s: %s, producer %d, epoch %d, since %v, %v", d.TxnID, d.State, d.ProducerID, d.ProducerEpoch,
				time.UnixMilli(d.StartTimestamp).UTC(), d.Topics)
		}
	}
	if err != nil {
		w.t.Logf("describe transactions: %v", err)
	}
	all, err := w.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		w.t.Logf("describe producers: %v", err)
		return
	}
	topics := kadm.TopicsSet{}
	for _, d := range all {
		if strings.HasPrefix(d.Topic, w.prefix) || d.Topic == "__consumer_offsets" {
			topics.Add(d.Topic, d.Partitions.Numbers()...)
		}
	}
	producers, err := w.admin.DescribeProducers(ctx, topics)
	if err != nil {
		w.t.Logf("describe producers: %v", err)
	}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			w.t.Logf("%s/%d has a transaction open from offset %d, of producer %d, epoch %d, last written at %v", p.Topic, p.Partition,
				p.CurrentTxnStartOffset, p.ProducerID, p.ProducerEpoch, time.UnixMilli(p.LastTimestamp).UTC())
		}
	})
}

// percentile of durations; d is sorted by it.
func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(p*float64(len(d))))]
}

func spreadOf(d []time.Duration) string {
	return fmt.Sprintf("n=%d p50=%v p90=%v p99=%v max=%v", len(d), percentile(d, .5).Round(time.Microsecond),
		percentile(d, .9).Round(time.Microsecond), percentile(d, .99).Round(time.Microsecond), percentile(d, 1).Round(time.Microsecond))
}
