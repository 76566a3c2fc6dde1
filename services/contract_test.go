// Package services_test holds the services against one another: that what one
// says is what the others expect to hear, and that they share no code.
package services_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/contract"
	inventorydomain "github.com/choreography-go/choreography/services/inventory/domain"
	inventory "github.com/choreography-go/choreography/services/inventory/service"
	order "github.com/choreography-go/choreography/services/order/service"
	paymentdomain "github.com/choreography-go/choreography/services/payment/domain"
	payment "github.com/choreography-go/choreography/services/payment/service"
	shippingdomain "github.com/choreography-go/choreography/services/shipping/domain"
	shipping "github.com/choreography-go/choreography/services/shipping/service"
)

// contracts are those of all services.
func contracts(t *testing.T) (all []contract.Contract) {
	t.Helper()
	orders, _ := order.New(order.Patience)
	for _, svc := range []*choreo.Service{orders, payment.New(&paymentdomain.Payments{}), shipping.New(&shippingdomain.Shipping{}), inventory.New(&inventorydomain.Stock{})} {
		c, err := svc.Contract()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestServicesFitTogether(t *testing.T) {
	for _, p := range contract.Check(contracts(t)...) {
		t.Error(p)
	}
}

// The check above is worth something only if it fails when they do not fit.
func TestServicesThatDoNotFitAreFound(t *testing.T) {
	const (
		placed = "com.example.order.placed.v1"
		failed = "com.example.shipment.failed.v1"
	)
	said := func(c *contract.Contract, typ string) *contract.Said {
		return &c.Says[slices.IndexFunc(c.Says, func(s contract.Said) bool { return s.Type == typ })]
	}
	// problem is what must be found: each of the words in one line.
	type problem []string
	cases := map[string]struct {
		change func(order, payment, shipping, inventory *contract.Contract)
		want   []problem
	}{
		"shipping is gone": {
			func(_, _, s, _ *contract.Contract) { *s = contract.Contract{Service: "shipping"} },
			[]problem{{"order", failed}, {"order", "com.example.shipment.shipped.v1"}, {"payment", failed}, {"inventory", failed}},
		},
		"inventory is gone": {
			func(_, _, _, i *contract.Contract) { *i = contract.Contract{Service: "inventory"} },
			[]problem{{"shipping (ship)", "stock.reserved", "half 2 of 2", "never runs"}, {"shipping", "stock.rejected", "nobody says it"}},
		},
		"payment is gone": {
			func(_, p, _, _ *contract.Contract) { *p = contract.Contract{Service: "payment"} },
			[]problem{{"order", "payment.declined"}, {"shipping", "payment.authorized", "half 1 of 2"}},
		},
		"a field is no longer said": {
			func(o, _, _, _ *contract.Contract) { delete(said(o, placed).Schema.Properties, "amountCents") },
			[]problem{{"payment", placed, "amountCents"}},
		},
		"a field has another type": {
			func(o, _, _, _ *contract.Contract) { said(o, placed).Schema.Properties["amountCents"].Type = "string" },
			[]problem{{"payment", placed, "amountCents"}},
		},
		"it is said on another topic": {
			func(o, _, _, _ *contract.Contract) { said(o, placed).Topic = "sales" },
			[]problem{{"payment", placed, "sales"}},
		},
		"nobody hears a failure any more": {
			func(o, p, _, i *contract.Contract) {
				for _, c := range []*contract.Contract{o, p, i} {
					c.Hears = slices.DeleteFunc(c.Hears, func(h contract.Heard) bool { return h.Type == failed })
				}
			},
			[]problem{{"shipping", failed}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			all := contracts(t)
			c.change(&all[0], &all[1], &all[2], &all[3])
			found := contract.Check(all...)
			for _, want := range c.want {
				if !slices.ContainsFunc(found, func(p contract.Problem) bool {
					return !slices.ContainsFunc(want, func(word string) bool { return !strings.Contains(p.String(), word) })
				}) {
					t.Errorf("no problem that names %q among %v", want, found)
				}
			}
		})
	}
}
