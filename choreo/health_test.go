package choreo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthCommandAsksReadyz(t *testing.T) {
	ready := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/readyz":
			w.WriteHeader(http.StatusNotFound)
		case !ready:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"ready":false,"reasons":["starting"]}`)
		}
	}))
	defer s.Close()
	addr := s.Listener.Addr().String()
	svc := NewService("svc", step())
	health := func(args []string, admin string) (int, string) {
		var out, err strings.Builder
		code := mainWith(t.Context(), svc, args, []string{"ADMIN_ADDR=" + admin}, &out, &err)
		return code, err.String()
	}
	for _, c := range []struct {
		name  string
		args  []string
		admin string
		ready bool
		code  int
		says  string
	}{
		{"ready", []string{"health"}, addr, true, 0, ""},
		{"ready on any address", []string{"health"}, strings.Replace(addr, "127.0.0.1", "0.0.0.0", 1), true, 0, ""},
		{"not ready", []string{"health"}, addr, false, 1, "starting"},
		{"no admin address", []string{"health"}, "off", true, 1, "ADMIN_ADDR"},
		{"nobody there", []string{"health"}, "127.0.0.1:1", true, 1, "refused"},
		{"an argument too many", []string{"health", "now"}, addr, true, 2, "now"},
	} {
		ready = c.ready
		if code, said := health(c.args, c.admin); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: exit code %d, want %d: %q", c.name, code, c.code, said)
		}
	}
}
