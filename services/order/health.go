package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// asksForHealth reports whether the program is to ask for the health of the
// service that runs beside it, which is what a container without a shell needs.
func asksForHealth(args []string) bool { return len(args) == 2 && args[1] == "health" }

// health asks the service's admin address whether it is ready. It returns the
// exit code: 0 if it is, 1 if it is not, with the reasons.
func health(adminAddr string, stderr io.Writer) int {
	host, port, err := net.SplitHostPort(cmp.Or(adminAddr, ":9090"))
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "health: ADMIN_ADDR is %q; there is no address to ask\n", adminAddr)
		return 1
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	client := http.Client{Timeout: 2 * time.Second}
	r, err := client.Get("http://" + net.JoinHostPort(host, port) + "/readyz")
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "health: %v\n", err)
		return 1
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode == http.StatusOK {
		return 0
	}
	reasons, _ := io.ReadAll(io.LimitReader(r.Body, 4<<10)) // what came of it is better than nothing
	_, _ = fmt.Fprintf(stderr, "health: %s %q\n", r.Status, reasons)
	return 1
}
