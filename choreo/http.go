package choreo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of the servers declared with [HTTP]. A handler sees a body that comes
// too slowly as an error of reading, os.ErrDeadlineExceeded, and answers 408. A
// handler that writes for longer than httpWriteTimeout extends it by
// http.ResponseController.
const (
	httpHeaderTimeout = 5 * time.Second  // for the header of a request to come
	httpReadTimeout   = 30 * time.Second // for header and body
	httpWriteTimeout  = 2 * time.Minute  // from the header to the end of the answer
	httpIdleTimeout   = 2 * time.Minute  // between two requests of a connection
	httpHeaderBytes   = 64 << 10
)

// startHTTP listens on all addresses and serves, or does nothing of it and
// returns why. stop takes no more requests, waits for those at work until its
// context ends, and then cuts them off, which is its error.
func startHTTP(ctx context.Context, declared []HTTP, listen func(network, address string) (net.Listener, error), log *slog.Logger) (stop func(context.Context) error, err error) {
	var listeners []net.Listener
	for _, h := range declared {
		l, err := listen("tcp", h.Addr)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return nil, fmt.Errorf("HTTP: listen on %q: %w; give HTTP.Addr a free address", h.Addr, err)
		}
		listeners = append(listeners, l)
	}
	var all servers
	for i, h := range declared {
		all = append(all, serve(ctx, listeners[i], h.Handler, log, limitedServer()))
		if h.Listening != nil {
			h.Listening(listeners[i].Addr().String())
		}
	}
	return all.stop, nil
}

// limitedServer is a server with the limits set.
func limitedServer() *http.Server {
	return &http.Server{
		ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpReadTimeout, WriteTimeout: httpWriteTimeout,
		IdleTimeout: httpIdleTimeout, MaxHeaderBytes: httpHeaderBytes,
	}
}

// server is a running http.Server.
type server struct {
	*http.Server
	done chan struct{} // closed when it has ended
}

// serve serves on l. Requests outlive ctx: they end when they are answered or
// cut off.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, srv *http.Server) server {
	s := server{srv, make(chan struct{})}
	s.Handler = h
	s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	s.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	go func() {
		defer close(s.done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP server failed", "addr", l.Addr().String(), "error", err)
		}
	}()
	return s
}

type servers []server

func (all servers) stop(ctx context.Context) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("HTTP: requests at work were cut off: %w", err)
				_ = s.Close()
			}
			<-s.done
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
