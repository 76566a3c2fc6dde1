package domain

// What the payment service hears: its own view, only the fields that it needs.
type (
	// OrderPlaced says that a customer placed an order.
	OrderPlaced struct {
		OrderID     string  `json:"orderId"`
		Customer    string  `json:"customer"`
		Tier        string  `json:"tier"`
		AmountCents int64   `json:"amountCents"`
		Address     Address `json:"address"`
	}
	// ShipmentFailed says that nothing will be shipped.
	ShipmentFailed struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)

// Address is where the parcel goes once it is paid. Payment passes it on.
type Address struct {
	Name     string `json:"name"`
	Street   string `json:"street"`
	Postcode string `json:"postcode"`
	City     string `json:"city"`
	Country  string `json:"country"`
}

// What the payment service says.
type (
	// Authorized says that the order's amount is reserved.
	Authorized struct {
		OrderID         string  `json:"orderId"`
		AuthorizationID string  `json:"authorizationId"`
		AmountCents     int64   `json:"amountCents"`
		Address         Address `json:"address"`
	}
	// Declined says that the customer may not spend so much in one order.
	Declined struct {
		OrderID    string `json:"orderId"`
		Reason     string `json:"reason"`
		LimitCents int64  `json:"limitCents"`
	}
	// Unavailable says that the payment could not be authorized, and that it is
	// not known whether money is held. Voided follows when it is known.
	Unavailable struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	// Refunded says that the money was given back.
	Refunded struct {
		OrderID     string `json:"orderId"`
		RefundID    string `json:"refundId"`
		AmountCents int64  `json:"amountCents"`
		Reason      string `json:"reason"`
	}
	// Voided says that no money is held for the order, nor will be.
	Voided struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)
