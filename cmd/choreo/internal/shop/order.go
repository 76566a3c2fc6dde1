// Package shop is the demo's customers: it decides what is ordered and what
// must become of it, and places orders over HTTP. It knows the services' rules
// and their HTTP interface from outside, as a customer does, and uses none of
// their code.
package shop

import (
	"fmt"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
)

// Order is the body of POST /orders.
type Order struct {
	Customer    string  `json:"customer"`
	Tier        string  `json:"tier"`
	SKU         string  `json:"sku"`
	Quantity    int     `json:"quantity"`
	AmountCents int64   `json:"amountCents"`
	Address     Address `json:"address"`
}

// Address is where the parcel goes.
type Address struct {
	Name     string `json:"name"`
	Street   string `json:"street"`
	Postcode string `json:"postcode"`
	City     string `json:"city"`
	Country  string `json:"country"`
}

// The payment service's limits of one order, in cents.
const (
	standardLimit = 50_000
	goldLimit     = 500_000
)

// kind is one sort of order, and what its content demands.
type kind struct {
	tier  string
	cents int64
	to    Address
	want  check.Outcome
}

var (
	berlin    = Address{Street: "Torstr. 1", Postcode: "10119", City: "Berlin", Country: "DE"}
	vienna    = Address{Street: "Ring 2", Postcode: "1010", City: "Wien", Country: "AT"}
	zurich    = Address{Street: "Limmatquai 3", Postcode: "8001", City: "Zürich", Country: "CH"}
	amsterdam = Address{Street: "Damrak 4", Postcode: "1012 LG", City: "Amsterdam", Country: "NL"}
	// The shipping service serves none of these.
	helgoland = Address{Street: "Am Falm 5", Postcode: "27498", City: "Helgoland", Country: "DE"}
	jungholz  = Address{Street: "Dorf 6", Postcode: "6691", City: "Jungholz", Country: "AT"}
	reykjavik = Address{Street: "Laugavegur 7", Postcode: "101", City: "Reykjavík", Country: "IS"}
)

// kinds is the mix: 6 of 10 are confirmed, 2 declined, 2 refunded, with both
// sides of every limit among them. What is neither payable nor shippable is
// declined, because payment comes first.
var kinds = []kind{
	{"standard", 1_999, berlin, check.WasConfirmed},
	{"standard", standardLimit + 1, vienna, check.WasDeclined},
	{"gold", standardLimit + 1, zurich, check.WasConfirmed},
	{"standard", 4_950, helgoland, check.WasRefunded},
	{"standard", standardLimit, amsterdam, check.WasConfirmed},
	{"gold", goldLimit, vienna, check.WasConfirmed},
	{"gold", goldLimit, reykjavik, check.WasRefunded},
	{"standard", 1, berlin, check.WasConfirmed},
	{"gold", goldLimit + 1, helgoland, check.WasDeclined},
	{"gold", 120_000, amsterdam, check.WasConfirmed},

	{"standard", 25_000, zurich, check.WasConfirmed},
	{"standard", 1_000_000, berlin, check.WasDeclined},
	{"gold", 75_000, berlin, check.WasConfirmed},
	{"standard", standardLimit, jungholz, check.WasRefunded},
	{"standard", 19_900, vienna, check.WasConfirmed},
	{"gold", 1, zurich, check.WasConfirmed},
	{"standard", 7_500, reykjavik, check.WasRefunded},
	{"standard", 300, amsterdam, check.WasConfirmed},
	{"gold", 99_999_999, amsterdam, check.WasDeclined},
	{"gold", 480_000, berlin, check.WasConfirmed},
}

// Numbered returns the order of a number, counted from 0, and what must become
// of it. It depends on nothing else; run tells the orders of one run of the
// demo from those of another.
func Numbered(run string, n int) (Order, check.Outcome) {
	k := kinds[n%len(kinds)]
	ref := Ref(run, n)
	to := k.to
	to.Name = ref
	return Order{
		Customer: ref, Tier: k.tier, SKU: fmt.Sprintf("sku-%03d", n%997), Quantity: 1 + n%9,
		AmountCents: k.cents, Address: to,
	}, k.want
}

// Ref is the customer of an order, another for each order, and its
// Idempotency-Key.
func Ref(run string, n int) string { return fmt.Sprintf("%s-%06d", run, n) }
