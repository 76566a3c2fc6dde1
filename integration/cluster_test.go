package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cluster is some brokers. Those in containers can be broken.
type cluster struct {
	brokers  []string
	nodes    []testcontainers.Container
	network  *testcontainers.DockerNetwork
	external bool // given by KAFKA_BROKERS
}

// sharedClusters are those in containers, by number of brokers: started by the
// first test that needs one, and used by all after it. Tests run one after the
// other, so one that breaks its brokers disturbs no other.
type sharedClusters struct{ by map[int]*cluster }

var shared = sharedClusters{by: map[int]*cluster{}}

func (s *sharedClusters) close() {
	for _, c := range s.by {
		c.close()
	}
}

// anyBrokers returns brokers, one or more, that must not be broken.
func anyBrokers(t *testing.T) *cluster { return brokers(t, 1) }

// threeBrokers returns three brokers, or more, that must not be broken.
func threeBrokers(t *testing.T) *cluster { return brokers(t, 3) }

func brokers(t *testing.T, n int) *cluster {
	t.Helper()
	if given := givenBrokers(); len(given) >= n {
		return &cluster{brokers: given, external: true}
	}
	return containers(t, n)
}

// containers returns brokers in containers, to be broken at will; the test
// leaves them whole. After a failure they are thrown away.
func containers(t *testing.T, n int) *cluster {
	t.Helper()
	c := shared.by[n]
	if c == nil {
		began := time.Now()
		var err error
		if c, err = startCluster(t.Context(), n); err != nil {
			t.Fatal(noBrokers(fmt.Sprintf("%d Kafka broker(s) in containers", n), err))
		}
		t.Logf("%d container(s) of %s started in %v", n, image(), time.Since(began).Round(100*time.Millisecond))
		shared.by[n] = c
	}
	dir := t.ArtifactDir() // now, so that it is there at the end
	t.Cleanup(func() {
		if t.Failed() {
			c.keepLogs(t, dir)
			c.close()
			delete(shared.by, n)
		}
	})
	return c
}

func noBrokers(what string, err error) string {
	return fmt.Sprintf("this test needs %s, and they cannot be started: %v\n"+
		"Start Docker, or set KAFKA_BROKERS=host:port,... to a Kafka 4.0 or later (three brokers for the tests of several leaders).\n"+
		"What breaks brokers needs Docker in any case; leave it out knowingly with: go test -C integration -skip 'NeedsDocker$' ./...", what, err)
}

func givenBrokers() []string {
	var all []string
	for b := range strings.SplitSeq(os.Getenv("KAFKA_BROKERS"), ",") {
		if b = strings.TrimSpace(b); b != "" {
			all = append(all, b)
		}
	}
	return all
}

func image() string {
	version := os.Getenv("KAFKA_VERSION")
	if version == "" {
		version = "4.3.1"
	}
	return "apache/kafka:" + version
}

// startCluster starts n combined brokers and controllers in containers, each
// reachable at a fixed port of the host, so that it is found again after a
// restart.
func startCluster(ctx context.Context, n int) (c *cluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, fmt.Errorf("find Docker: %w", err)
	}
	defer provider.Close()
	if err := provider.Health(ctx); err != nil {
		return nil, fmt.Errorf("ask Docker whether it is there: %w", err)
	}
	host, err := provider.DaemonHost(ctx)
	if err != nil {
		return nil, fmt.Errorf("find Docker's host: %w", err)
	}
	bind := netip.IPv4Unspecified()
	if host == "localhost" || host == "127.0.0.1" {
		host, bind = "127.0.0.1", netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	c = &cluster{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.network, err = network.New(ctx); err != nil {
		return nil, fmt.Errorf("make a network of containers: %w", err)
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@kafka-%d:9093", i+1, i+1))
	}
	replicas, insync := min(n, 3), max(1, min(n, 3)-1)
	c.nodes = make([]testcontainers.Container, n)
	c.brokers = make([]string, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		c.brokers[i] = net.JoinHostPort(host, strconv.Itoa(port))
		env := map[string]string{
			"KAFKA_NODE_ID":                                      strconv.Itoa(i + 1),
			"KAFKA_PROCESS_ROLES":                                "broker,controller",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                     strings.Join(voters, ","),
			"KAFKA_CONTROLLER_LISTENER_NAMES":                    "CONTROLLER",
			"KAFKA_INTER_BROKER_LISTENER_NAME":                   "INTERNAL",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":               "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT",
			"KAFKA_LISTENERS":                                    "CONTROLLER://:9093,INTERNAL://:19092,EXTERNAL://:9092",
			"KAFKA_ADVERTISED_LISTENERS":                         fmt.Sprintf("INTERNAL://kafka-%d:19092,EXTERNAL://%s", i+1, c.brokers[i]),
			"KAFKA_HEAP_OPTS":                                    "-Xms512m -Xmx512m",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":             "0",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                    "false",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":                 "5",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":             strconv.Itoa(replicas),
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":         "5",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":     strconv.Itoa(replicas),
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                strconv.Itoa(insync),
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_NUM_PARTITIONS": "1",
			"KAFKA_DEFAULT_REPLICATION_FACTOR":                   strconv.Itoa(replicas),
			"KAFKA_MIN_INSYNC_REPLICAS":                          strconv.Itoa(insync),
			"CLUSTER_ID":                                         "choreoIntegrationTests",
		}
		if n > 1 { // the optimizing compilers of three machines keep two cores busy for a minute
			env["KAFKA_JVM_PERFORMANCE_OPTS"] = "-server -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
		}
		wg.Go(func() {
			c.nodes[i], errs[i] = testcontainers.Run(ctx, image(),
				testcontainers.WithEnv(env),
				testcontainers.WithExposedPorts("9092/tcp"),
				network.WithNetwork([]string{fmt.Sprintf("kafka-%d", i+1)}, c.network),
				testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
					h.PortBindings = mobynet.PortMap{mobynet.MustParsePort("9092/tcp"): {{HostIP: bind, HostPort: strconv.Itoa(port)}}}
				}),
				testcontainers.WithWaitStrategyAndDeadline(time.Minute, wait.ForLog("Kafka Server started")))
		})
	}
	wg.Wait()
	for _, e := range errs {
		if e != nil {
			return nil, fmt.Errorf("start %s: %w", image(), e)
		}
	}
	return c, c.await(ctx)
}

// await returns when all brokers know of each other.
func (c *cluster) await(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		all := true
		for i := range c.brokers {
			one, err := kgo.NewClient(kgo.SeedBrokers(c.brokers[i]))
			if err != nil {
				return err
			}
			ask, cancel := context.WithTimeout(ctx, 2*time.Second)
			known, err := adminOf(one).ListBrokers(ask)
			cancel()
			one.Close()
			all = all && err == nil && len(known) == len(c.brokers)
		}
		if all {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the brokers %v know of each other: %w", c.brokers, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keepLogs writes what the brokers logged to the test's artifacts.
func (c *cluster) keepLogs(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i, n := range c.nodes {
		logs, err := n.Logs(ctx)
		if err != nil {
			t.Logf("logs of broker %d: %v", i+1, err)
			continue
		}
		text, err := io.ReadAll(logs)
		_ = logs.Close()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("broker-%d.log", i+1)), text, 0o600)
		}
		if err != nil {
			t.Logf("logs of broker %d: %v", i+1, err)
		}
	}
}

func (c *cluster) close() {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		if n != nil {
			wg.Go(func() { _ = testcontainers.TerminateContainer(n, testcontainers.StopTimeout(0)) })
		}
	}
	wg.Wait()
	if c.network != nil {
		_ = c.network.Remove(context.Background())
	}
}

// docker calls f with Docker's client.
func (c *cluster) docker(t *testing.T, what string, f func(context.Context, *testcontainers.DockerClient) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err == nil {
		defer d.Close()
		err = f(ctx, d)
	}
	if err != nil {
		t.Fatalf("docker %s: %v", what, err)
	}
}

// kill ends a broker by SIGKILL.
func (c *cluster) kill(t *testing.T, node int) {
	t.Helper()
	c.docker(t, "kill", func(ctx context.Context, d *testcontainers.DockerClient) error {
		_, err := d.ContainerKill(ctx, c.nodes[node].GetContainerID(), client.ContainerKillOptions{Signal: "KILL"})
		return err
	})
}

// restart starts a killed broker again, with its data.
func (c *cluster) restart(t *testing.T, node int) {
	t.Helper()
	c.docker(t, "start", func(ctx context.Context, d *testcontainers.DockerClient) error {
		_, err := d.ContainerStart(ctx, c.nodes[node].GetContainerID(), client.ContainerStartOptions{})
		return err
	})
}

// pause freezes a broker.
func (c *cluster) pause(t *testing.T, node int) {
	t.Helper()
	c.docker(t, "pause", func(ctx context.Context, d *testcontainers.DockerClient) error {
		_, err := d.ContainerPause(ctx, c.nodes[node].GetContainerID(), client.ContainerPauseOptions{})
		return err
	})
}

// resume lets a frozen broker go on.
func (c *cluster) resume(t *testing.T, node int) {
	t.Helper()
	c.docker(t, "unpause", func(ctx context.Context, d *testcontainers.DockerClient) error {
		_, err := d.ContainerUnpause(ctx, c.nodes[node].GetContainerID(), client.ContainerUnpauseOptions{})
		return err
	})
}

var ports struct {
	sync.Mutex
	next int
}

// freePort finds a port below those that the kernel gives to connections, so
// that none of them takes it before it is listened on.
func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	const low, high = 20000, 29999
	if ports.next == 0 {
		ports.next = low + os.Getpid()*37%(high-low)
	}
	for range high - low {
		p := ports.next
		if ports.next++; ports.next > high {
			ports.next = low
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		return p, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", low, high)
}
