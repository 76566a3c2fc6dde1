package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/choreography-go/choreography/choreo"
)

// childVariable names the service that this process is to run instead of tests.
const childVariable = "INTEGRATION_SERVICE"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		declare, ok := services[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "%s=%s: no such service\n", childVariable, name)
			os.Exit(2)
		}
		choreo.Main(declare()) // ends the process
	}
	code := m.Run()
	shared.close()
	os.Exit(code)
}
