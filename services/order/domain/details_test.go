package domain

import (
	"strings"
	"testing"
)

func TestMistakes(t *testing.T) {
	cases := map[string]struct {
		change func(*Details)
		fields string
	}{
		"none":                      {func(*Details) {}, ""},
		"everything at once":        {func(d *Details) { *d = Details{} }, "customer tier sku quantity amountCents address/name address/street address/postcode address/city address/country"},
		"negative amount":           {func(d *Details) { d.AmountCents = -1 }, "amountCents"},
		"zero amount":               {func(d *Details) { d.AmountCents = 0 }, "amountCents"},
		"largest amount":            {func(d *Details) { d.AmountCents = MaxAmountCents }, ""},
		"larger amount":             {func(d *Details) { d.AmountCents = MaxAmountCents + 1 }, "amountCents"},
		"negative quantity":         {func(d *Details) { d.Quantity = -3 }, "quantity"},
		"too many":                  {func(d *Details) { d.Quantity = MaxQuantity + 1 }, "quantity"},
		"unknown tier":              {func(d *Details) { d.Tier = "platinum" }, "tier"},
		"blank customer":            {func(d *Details) { d.Customer = " \t" }, "customer"},
		"longest customer":          {func(d *Details) { d.Customer = strings.Repeat("ä", 100) }, ""},
		"too long customer":         {func(d *Details) { d.Customer = strings.Repeat("ä", 101) }, "customer"},
		"line break in a name":      {func(d *Details) { d.Address.Name = "Ada\nlevel=ERROR" }, "address/name"},
		"small letters":             {func(d *Details) { d.Address.Country = "de" }, "address/country"},
		"country of three":          {func(d *Details) { d.Address.Country = "DEU" }, "address/country"},
		"country of another script": {func(d *Details) { d.Address.Country = "Д" }, "address/country"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := details()
			c.change(&d)
			var got []string
			for _, m := range d.Mistakes() {
				got = append(got, m.Field)
				if m.Problem == "" {
					t.Errorf("%s: no problem is said", m.Field)
				}
			}
			if strings.Join(got, " ") != c.fields {
				t.Errorf("mistakes in %q, want %q", got, c.fields)
			}
		})
	}
}
