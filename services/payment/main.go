// Command payment is the payment service: it authorizes, declines and refunds.
package main

import (
	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/payment/domain"
	"github.com/choreography-go/choreography/services/payment/service"
)

func main() {
	payments := &domain.Payments{Ledger: &domain.MemoryLedger{}}
	choreo.Main(service.New(payments), tracing("payment"))
}
