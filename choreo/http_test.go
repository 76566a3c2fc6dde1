package choreo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func startForTest(t *testing.T, h http.Handler) (addr string, stop func(context.Context) error) {
	t.Helper()
	stop, err := startHTTP(t.Context(), []HTTP{{Addr: "127.0.0.1:0", Handler: h, Listening: func(a string) { addr = a }}}, net.Listen, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return addr, stop
}

func TestHTTPDrainsRequestsAtStop(t *testing.T) {
	at, release := make(chan struct{}), make(chan struct{})
	addr, stop := startForTest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(at)
		<-release
		_, _ = io.WriteString(w, "done")
	}))
	client := &http.Client{}
	defer client.CloseIdleConnections()
	answer := make(chan string, 1)
	go func() {
		res, err := client.Get("http://" + addr)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		answer <- string(b)
	}()
	<-at
	stopped := make(chan error, 1)
	go func() { stopped <- stop(context.WithoutCancel(t.Context())) }()
	for { // no more connections are taken
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("stopped (%v) before the request was answered", err)
	default:
	}
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the request at work got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestHTTPCutsOffRequestsAtTheLimit(t *testing.T) {
	at := make(chan struct{})
	ended := make(chan struct{})
	addr, stop := startForTest(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(at)
		<-r.Context().Done()
		close(ended)
	}))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-at
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
}

func TestHTTPSaysWhichAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var first string
	_, err = startHTTP(t.Context(), []HTTP{
		{Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), Listening: func(a string) { first = a }},
		{Addr: l.Addr().String(), Handler: http.NotFoundHandler()},
	}, net.Listen, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || first != "" {
		t.Errorf("%v; the other was started: %q", err, first)
	}
}

func TestSlowBodiesTimeOutAndLongAnswersDoNot(t *testing.T) {
	const timeout = 50 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
			w.WriteHeader(http.StatusRequestTimeout)
			return
		}
		select { // work for longer than a body may take
		case <-r.Context().Done():
			w.WriteHeader(http.StatusInternalServerError)
		case <-time.After(3 * timeout):
		}
	})
	srv := limitedServer()
	if srv.ReadTimeout == 0 || srv.ReadHeaderTimeout == 0 || srv.WriteTimeout == 0 || srv.IdleTimeout == 0 {
		t.Errorf("a limit is missing: %+v", srv)
	}
	srv.ReadTimeout = timeout
	s := serve(t.Context(), l, h, slog.New(slog.DiscardHandler), srv)
	defer func() { _ = servers{s}.stop(context.WithoutCancel(t.Context())) }()
	for _, c := range []struct {
		body string
		code int
	}{{"12345", 200}, {"123", 408}} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n%s", c.body)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		_ = conn.Close()
		if res.StatusCode != c.code {
			t.Errorf("a body of %d of 5 bytes: %d, want %d", len(c.body), res.StatusCode, c.code)
		}
	}
}
