package domain

// What the order service says.
type (
	// Placed says that a customer placed an order.
	Placed struct {
		OrderID string `json:"orderId"`
		Details
	}
	// Confirmed says that the order is paid and on its way: the flow succeeded.
	Confirmed struct {
		OrderID  string `json:"orderId"`
		ParcelID string `json:"parcelId"`
	}
	// Expired asks for the end of an order that has not ended in time. Whether it
	// ends by that is for others to say.
	Expired struct {
		OrderID string `json:"orderId"`
	}
	// Cancelled says that the order was given up and no money is held: the flow
	// failed.
	Cancelled struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)

// What the order service hears: its own view, only the fields that it needs.
type (
	// PaymentAuthorized says that the money is reserved.
	PaymentAuthorized struct {
		AuthorizationID string `json:"authorizationId"`
	}
	// PaymentDeclined says that the customer may not spend so much.
	PaymentDeclined struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	// PaymentUnavailable says that the payment could not be authorized, and
	// that it is not known whether money is held. PaymentVoided follows.
	PaymentUnavailable struct {
		Reason string `json:"reason"`
	}
	// PaymentRefunded says that the money was given back.
	PaymentRefunded struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	// PaymentVoided says that no money is held, nor will be.
	PaymentVoided struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	// Shipped says that the parcel is on its way.
	Shipped struct {
		OrderID  string `json:"orderId"`
		ParcelID string `json:"parcelId"`
	}
	// StockRejected says that the goods are not there.
	StockRejected struct {
		Reason string `json:"reason"`
	}
	// StockReleased says that no goods are set aside, nor will be.
	StockReleased struct{}
	// ShipmentFailed says that nothing will be shipped.
	ShipmentFailed struct {
		Reason string `json:"reason"`
	}
)
