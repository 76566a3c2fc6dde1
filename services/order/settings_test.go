package main

import (
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/services/order/service"
)

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		want settings
	}{
		{"nothing set", nil, settings{":8080", 15 * time.Minute}},
		{"empty", map[string]string{"HTTP_ADDR": "", "ORDER_PATIENCE": ""}, settings{":8080", 15 * time.Minute}},
		{"all set", map[string]string{"HTTP_ADDR": "127.0.0.1:1", "ORDER_PATIENCE": "1m30s"}, settings{"127.0.0.1:1", 90 * time.Second}},
		{"the least", map[string]string{"ORDER_PATIENCE": "100ms"}, settings{":8080", 100 * time.Millisecond}},
		{"the most", map[string]string{"ORDER_PATIENCE": "24h"}, settings{":8080", 24 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readSettings(func(name string) string { return c.env[name] })
			if err != nil || got != c.want {
				t.Fatalf("%+v, %v; want %+v", got, err, c.want)
			}
			svc, _ := service.New(got.patience)
			if err := svc.Validate(); err != nil {
				t.Errorf("the service cannot be declared with it: %v", err)
			}
		})
	}
}

func TestPatienceThatIsRefused(t *testing.T) {
	for _, value := range []string{"soon", "15", "-15m", "0", "0s", "99ms", "1ns", "24h0m1s", "9999999h", "NaN", " 15m", strings.Repeat("9", 10_000) + "h"} {
		_, err := readSettings(func(name string) string { return map[string]string{"ORDER_PATIENCE": value}[name] })
		if err == nil {
			t.Errorf("%.20q is taken", value)
			continue
		}
		for _, want := range []string{"ORDER_PATIENCE", value[:min(len(value), 20)], "100ms to 24h", "such as 15m"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%.20q: %v does not say %q", value, err, want)
			}
		}
		if len(err.Error()) > 300 {
			t.Errorf("the message has %d bytes", len(err.Error()))
		}
	}
}

func TestHelpNamesTheSettings(t *testing.T) {
	for _, want := range []string{"  HTTP_ADDR ", "  ORDER_PATIENCE ", "(default :8080)", "(default 15m)", "100ms to 24h"} {
		if !strings.Contains(help, want) {
			t.Errorf("help does not say %q:\n%s", want, help)
		}
	}
}
