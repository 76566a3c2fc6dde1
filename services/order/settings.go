package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/services/order/service"
)

// settings are what this program reads from the environment besides what every
// service does.
type settings struct {
	addr     string
	patience time.Duration
}

// No order ends in less than leastPatience. After mostPatience nobody waits for an
// order any more, and the services still remember it.
const (
	leastPatience = 100 * time.Millisecond
	mostPatience  = 24 * time.Hour
)

// help describes the settings. What --help says of every service follows.
const help = `order reads these variables besides those below:
  HTTP_ADDR       address of its HTTP interface (default :8080)
  ORDER_PATIENCE  how long an order may take until it expires, 100ms to 24h (default 15m)

`

// readSettings reads the settings. A variable that is empty counts as not set.
func readSettings(getenv func(string) string) (settings, error) {
	s := settings{addr: cmp.Or(getenv("HTTP_ADDR"), ":8080"), patience: service.Patience}
	value := getenv("ORDER_PATIENCE")
	if value == "" {
		return s, nil
	}
	patience, err := time.ParseDuration(value)
	if err != nil || patience < leastPatience || patience > mostPatience {
		return s, fmt.Errorf("ORDER_PATIENCE=%.64q: must be a duration from 100ms to 24h, such as 15m, the default", value)
	}
	s.patience = patience
	return s, nil
}
