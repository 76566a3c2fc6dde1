package domain

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Details are what a customer orders. Details are equal (==) if they are the
// same order.
type Details struct {
	Customer string `json:"customer"`
	// Tier is the customer's: "standard" or "gold". It decides how much may be
	// spent in one order.
	Tier     string `json:"tier"`
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	// AmountCents is the price of the whole order in cents.
	AmountCents int64   `json:"amountCents"`
	Address     Address `json:"address"`
}

// Address is where the parcel goes.
type Address struct {
	Name     string `json:"name"`
	Street   string `json:"street"`
	Postcode string `json:"postcode"`
	City     string `json:"city"`
	// Country is an ISO 3166-1 code of two capital letters, such as "DE".
	Country string `json:"country"`
}

const (
	// MaxQuantity is the largest quantity in one order.
	MaxQuantity = 1_000
	// MaxAmountCents is the largest amount of one order; a limit against slips
	// of the pen, far above any customer's.
	MaxAmountCents = 100_000_000
)

// tiers that there are.
var tiers = []string{"standard", "gold"}

// Mistake is something wrong with one field.
type Mistake struct {
	// Field is the field's path, such as "address/country".
	Field string
	// Problem says what is allowed instead.
	Problem string
}

// Mistakes lists all that is wrong with the details, in the order of the
// fields; none means that they are a valid order.
func (d Details) Mistakes() []Mistake {
	var all []Mistake
	mistake := func(field, format string, args ...any) {
		all = append(all, Mistake{field, fmt.Sprintf(format, args...)})
	}
	text := func(field, value string, limit int) {
		switch n := utf8.RuneCountInString(value); {
		case strings.TrimSpace(value) == "":
			mistake(field, "must be given")
		case n > limit:
			mistake(field, "has %d characters, at most %d are allowed", n, limit)
		case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
			mistake(field, "must not have control characters or line breaks")
		}
	}
	text("customer", d.Customer, 100)
	if !slices.Contains(tiers, d.Tier) {
		mistake("tier", "must be one of %s", strings.Join(tiers, ", "))
	}
	text("sku", d.SKU, 100)
	if d.Quantity < 1 || d.Quantity > MaxQuantity {
		mistake("quantity", "is %d, must be from 1 to %d", d.Quantity, MaxQuantity)
	}
	if d.AmountCents < 1 || d.AmountCents > MaxAmountCents {
		mistake("amountCents", "is %d, must be from 1 to %d", d.AmountCents, MaxAmountCents)
	}
	text("address/name", d.Address.Name, 100)
	text("address/street", d.Address.Street, 200)
	text("address/postcode", d.Address.Postcode, 16)
	text("address/city", d.Address.City, 100)
	if c := d.Address.Country; len(c) != 2 || strings.ContainsFunc(c, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		mistake("address/country", "must be a country code of two capital letters, such as DE")
	}
	return all
}
