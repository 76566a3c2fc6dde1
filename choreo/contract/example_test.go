package contract_test

import (
	"fmt"
	"reflect"

	"github.com/choreography-go/choreography/choreo/contract"
)

// Payment says an amount in cents, shipping still reads it as text.
func ExampleCheck() {
	event := func(payload any) contract.Event {
		schema, err := contract.SchemaOf(reflect.TypeOf(payload))
		if err != nil {
			panic(err)
		}
		return contract.Event{Type: "payment.authorized.v1", Topic: "payments", ContentType: "application/json", Schema: schema}
	}
	payment := contract.Contract{Service: "payment", Says: []contract.Said{{
		Event: event(struct{ Amount int64 }{}),
		By:    []contract.Sayer{{Name: "authorize", Kind: "did"}},
	}}}
	shipping := contract.Contract{Service: "shipping", Hears: []contract.Heard{{
		Event: event(struct{ Amount, Address string }{}),
		By:    []contract.Hearer{{Name: "ship", Role: contract.Runs}},
	}}}
	for _, p := range contract.Check(payment, shipping) {
		fmt.Println(p)
	}
	// Output:
	// shipping (ship): payment.authorized.v1: field Address: is read as string and payment does not say it
	// shipping (ship): payment.authorized.v1: field Amount: is read as string and payment says integer
}
