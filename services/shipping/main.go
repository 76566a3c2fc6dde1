// Command shipping is the shipping service: it ships what was paid for and is in
// stock, where parcels go.
package main

import (
	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/shipping/domain"
	"github.com/choreography-go/choreography/services/shipping/service"
)

func main() {
	shipping := &domain.Shipping{Area: domain.DefaultArea(), Carrier: domain.PaperCarrier{}}
	choreo.Main(service.New(shipping), tracing("shipping"))
}
