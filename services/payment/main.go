// Command payment is the payment service: it authorizes, declines and refunds.
package main

import (
	"os"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/payment/domain"
	"github.com/choreography-go/choreography/services/payment/service"
)

func main() {
	if asksForHealth(os.Args) {
		os.Exit(health(os.Getenv("ADMIN_ADDR"), os.Stderr))
	}
	payments := &domain.Payments{Ledger: &domain.MemoryLedger{}}
	choreo.Main(service.New(payments), tracing("payment"))
}
