// Command inventory is the inventory service: it sets aside what was ordered, and
// puts it back when it is not shipped.
package main

import (
	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/inventory/domain"
	"github.com/choreography-go/choreography/services/inventory/service"
)

func main() {
	stock := &domain.Stock{Scarce: domain.DefaultScarce(), Warehouse: domain.PaperWarehouse{}}
	choreo.Main(service.New(stock), tracing("inventory"))
}
