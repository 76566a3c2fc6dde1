package choreo_test

import (
	"fmt"

	"github.com/choreography-go/choreography/choreo"
)

// All mistakes are reported at once.
func ExampleLoadConfig() {
	_, err := choreo.LoadConfig([]string{"KAFKA_BROKERS=localhost", "INSTANCE_ID=payment-0", "LANES=many", "STOP_TIMEOUT=1ms"})
	fmt.Println(err)

	cfg, err := choreo.LoadConfig([]string{"KAFKA_BROKERS=localhost:9092", "INSTANCE_ID=payment-0"})
	fmt.Println(cfg.Brokers, cfg.Lanes, cfg.StopTimeout, err)
	// Output:
	// choreo: the configuration is wrong:
	// LANES="many": is not a number
	// KAFKA_BROKERS="localhost": is not host:port, such as kafka-0.internal:9092
	// STOP_TIMEOUT="1ms": allowed is 1s to 1h0m0s
	// [localhost:9092] 4 20s <nil>
}
