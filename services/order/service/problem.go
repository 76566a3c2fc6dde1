package service

import (
	"net/http"
)

// problem is RFC 9457's problem details. Without a Type it is "about:blank" and
// its title that of the status.
type problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Errors lists what is wrong with the fields of the body.
	Errors []fieldError `json:"errors,omitempty"`
	// IdempotencyKey is under which to send the request again.
	IdempotencyKey string `json:"idempotencyKey,omitempty"`
}

// fieldError is what is wrong with one field.
type fieldError struct {
	Detail string `json:"detail"`
	// Pointer is a JSON pointer into the body, as a URI fragment.
	Pointer string `json:"pointer"`
}

func write(w http.ResponseWriter, p problem) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, p.Status, p)
}
