// Package domain is what an order is: how it is placed, what becomes of it, and
// what is said at its end. It is plain Go and knows neither Kafka nor HTTP nor
// the runtime.
package domain

import "slices"

// Status is what has become of an order.
type Status string

// The statuses, in the order in which they follow from one another.
const (
	StatusPlaced     Status = "placed"
	StatusAuthorized Status = "authorized"
	StatusDeclined   Status = "declined"
	StatusVoiding    Status = "voiding" // it is not known whether money is held; it is being found out
	StatusOutOfStock Status = "out of stock"
	StatusExpired    Status = "expired" // it takes too long; if nothing is shipped yet, nothing will be
	StatusShipped    Status = "shipped"
	StatusRefunding  Status = "refunding" // it cannot be shipped, and the money goes back
	StatusRefunded   Status = "refunded"
	StatusVoided     Status = "voided"
	StatusReleased   Status = "released"  // no goods are set aside for it any more
	StatusConfirmed  Status = "confirmed" // an end
	StatusCancelled  Status = "cancelled" // an end
)

// order of the statuses in a history.
var sequence = []Status{
	StatusPlaced, StatusAuthorized, StatusDeclined, StatusVoiding, StatusOutOfStock, StatusExpired, StatusShipped, StatusRefunding,
	StatusRefunded, StatusVoided, StatusReleased, StatusConfirmed, StatusCancelled,
}

// Entry is one line of an order's history.
type Entry struct {
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// Order is the aggregate. Its methods are the events that change it.
//
// Events come from several services over several topics, and between topics
// there is no order: a refund may be heard before the failure that caused it.
// So an order is the set of what has happened to it, and its history lists that
// in the order of causes, whichever way it was heard. An event that is heard
// again changes nothing, and exactly one end is said.
type Order struct {
	ID string `json:"orderId"`
	Details
	ParcelID string  `json:"parcelId,omitempty"`
	Reason   string  `json:"reason,omitempty"` // why it was cancelled
	History  []Entry `json:"history"`
}

// Status is the last of the history.
func (o *Order) Status() Status {
	if len(o.History) == 0 {
		return ""
	}
	return o.History[len(o.History)-1].Status
}

// IsPlaced reports whether the order's own content is known yet.
func (o *Order) IsPlaced() bool { return o.has(StatusPlaced) }

// Ended reports whether the order is confirmed or cancelled.
func (o *Order) Ended() bool { return o.has(StatusConfirmed) || o.has(StatusCancelled) }

// Place begins the order.
func (o *Order) Place(p Placed) {
	if o.note(StatusPlaced, "") {
		o.ID, o.Details = p.OrderID, p.Details
	}
}

// Authorize notes that the money is reserved.
func (o *Order) Authorize(a PaymentAuthorized) { o.note(StatusAuthorized, a.AuthorizationID) }

// PaymentUnavailable notes that it must be found out whether money is held.
func (o *Order) PaymentUnavailable(u PaymentUnavailable) {
	o.note(StatusVoiding, u.Reason)
	o.strike(StatusRefunding)
}

// OutOfStock notes that there is nothing to ship.
func (o *Order) OutOfStock(r StockRejected) { o.note(StatusOutOfStock, r.Reason) }

// Release notes that no goods are set aside any more.
func (o *Order) Release(StockReleased) { o.note(StatusReleased, "") }

// Expired is what is said of an order that has not ended in time.
func (p Placed) Expired() Expired { return Expired{OrderID: p.OrderID} }

// Expire notes that the order takes too long.
func (o *Order) Expire(Expired) { o.note(StatusExpired, "") }

// NotShipped notes that the money will be given back, if any is held.
func (o *Order) NotShipped(f ShipmentFailed) {
	if !o.has(StatusDeclined) && !o.has(StatusVoiding) {
		o.note(StatusRefunding, f.Reason)
	}
}

// Ship confirms the order.
func (o *Order) Ship(s Shipped) (end Confirmed, say bool) {
	o.note(StatusShipped, s.ParcelID)
	if o.Ended() {
		return Confirmed{}, false
	}
	o.ParcelID = s.ParcelID
	o.note(StatusConfirmed, "")
	return Confirmed{OrderID: s.OrderID, ParcelID: s.ParcelID}, true
}

// Decline cancels the order.
func (o *Order) Decline(d PaymentDeclined) (end Cancelled, say bool) {
	o.note(StatusDeclined, d.Reason)
	o.strike(StatusRefunding)
	o.strike(StatusVoided)
	return o.cancel(d.OrderID, d.Reason)
}

// Refund cancels the order.
func (o *Order) Refund(r PaymentRefunded) (end Cancelled, say bool) {
	o.note(StatusRefunded, r.Reason)
	return o.cancel(r.OrderID, r.Reason)
}

// Void cancels the order.
func (o *Order) Void(v PaymentVoided) (end Cancelled, say bool) {
	if !o.has(StatusDeclined) { // then there never was any money
		o.note(StatusVoided, v.Reason)
	}
	return o.cancel(v.OrderID, v.Reason)
}

func (o *Order) cancel(id, reason string) (Cancelled, bool) {
	if o.Ended() {
		return Cancelled{}, false
	}
	o.Reason = reason
	o.note(StatusCancelled, reason)
	return Cancelled{OrderID: id, Reason: reason}, true
}

func (o *Order) has(s Status) bool {
	return slices.ContainsFunc(o.History, func(e Entry) bool { return e.Status == s })
}

// strike takes out of the history what turns out not to be so.
func (o *Order) strike(s Status) {
	o.History = slices.DeleteFunc(o.History, func(e Entry) bool { return e.Status == s })
}

// note puts what happened where it belongs in the history. It returns false if
// that is known already.
func (o *Order) note(s Status, detail string) bool {
	if o.has(s) {
		return false
	}
	rank := slices.Index(sequence, s)
	at := 0
	for at < len(o.History) && slices.Index(sequence, o.History[at].Status) < rank {
		at++
	}
	o.History = slices.Insert(o.History, at, Entry{Status: s, Detail: detail})
	return true
}
