// Command order is the order service: it takes orders over HTTP, follows what
// becomes of them and says how they end. HTTP_ADDR is where it listens, :8080
// by default, and ORDER_PATIENCE how long an order may take until it expires, 15m
// by default; the other variables are those of every service, see --help.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/order/service"
)

func main() {
	s, err := readSettings(os.Getenv)
	switch {
	case len(os.Args) > 1 && slices.Contains([]string{"help", "--help", "-help", "-h"}, os.Args[1]):
		fmt.Print(help)
	case err != nil:
		fmt.Fprintf(os.Stderr, "order: %v\n", err)
		os.Exit(2) // as Main does when the configuration is wrong
	}
	svc, handler := service.New(s.patience)
	svc.Add(choreo.HTTP{Addr: s.addr, Handler: handler})
	choreo.Main(svc, tracing("order"))
}
