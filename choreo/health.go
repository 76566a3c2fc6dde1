package choreo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// health asks the admin address of the service that runs beside it whether it is
// ready: what a health check needs in a container without a shell or curl.
func (p *program) health(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Sprintf("health: unexpected argument %q; see %s --help", clip(args[0]), p.service.name)}
	}
	addr := ":9090"
	for _, v := range p.environ {
		if value, ok := strings.CutPrefix(v, "ADMIN_ADDR="); ok && value != "" {
			addr = value
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("health: ADMIN_ADDR is %q: there is no address to ask; set one, such as :9090", clip(addr))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	client := http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	r, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode == http.StatusOK {
		return nil
	}
	reasons, _ := io.ReadAll(io.LimitReader(r.Body, 4<<10)) // what came of it is better than nothing
	return fmt.Errorf("health: %s %s", r.Status, reasons)
}
