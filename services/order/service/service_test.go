package service

import (
	"net/http"
	"testing"
)

func TestDeclarationIsValid(t *testing.T) {
	svc, _ := New()
	if err := svc.Validate(); err != nil {
		t.Error(err)
	}
}

func TestHandlerBeforeTheServiceRuns(t *testing.T) {
	_, h := New()
	wantProblem(t, post(h, order, "Idempotency-Key", "k1"), http.StatusServiceUnavailable)
	wantProblem(t, get(h, "/orders/x"), http.StatusServiceUnavailable)
}
