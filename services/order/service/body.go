package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/choreography-go/choreography/services/order/domain"
)

// readDetails reads the request's body as an order, or says why it is none:
//
//	400  not JSON, not the right types, an unknown field, more than one value
//	408  too slow
//	413  too large
//	415  not application/json
//	422  an order, but not a valid one: every mistake, with its field
func (h handler) readDetails(w http.ResponseWriter, r *http.Request) (domain.Details, *problem) {
	var d domain.Details
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return d, &problem{Status: http.StatusUnsupportedMediaType, Detail: "send the order as application/json"}
	}
	body, p := h.readBody(w, r)
	if p != nil {
		return d, p
	}
	if err := decode(body, &d); err != nil {
		return d, &problem{Status: http.StatusBadRequest, Detail: err.Error()}
	}
	if mistakes := d.Mistakes(); len(mistakes) > 0 {
		p := &problem{
			Type: "https://example.com/problems/invalid-order", Title: "The order is not valid",
			Status: http.StatusUnprocessableEntity,
		}
		for _, m := range mistakes {
			p.Errors = append(p.Errors, fieldError{Detail: m.Problem, Pointer: "#/" + m.Field})
		}
		return d, p
	}
	return d, nil
}

func (h handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	// Not every ResponseWriter is a connection; the server's is.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return body, nil // and the server has lifted the deadline
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("an order has at most %d bytes", maxBody)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &problem{Status: http.StatusRequestTimeout, Detail: fmt.Sprintf("the body did not arrive within %v", h.bodyTimeout)}
	}
	return nil, &problem{Status: http.StatusBadRequest, Detail: "the body could not be read to its end"}
}

// jsonType says what a Go type is in JSON.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		return "an object"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "a " + t.Kind().String()
}

// decode reads exactly one JSON object into v. Its errors are for the client
// to read.
func decode(body []byte, v any) error {
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return errors.New("the body must be a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("field %q must be %s, not %.40s", t.Field, jsonType(t.Type), t.Value)
		}
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("the body is not JSON: %w at byte %d", s, s.Offset)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the body is not JSON: it ends too early")
		}
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body must be one JSON object and nothing after it")
	}
	return nil
}
