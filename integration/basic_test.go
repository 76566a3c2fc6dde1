package integration

import (
	"testing"
	"time"
)

func TestLoadWithoutTrouble(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	w.begin()
	w.feeder.during(load{rate: 300, flows: 200, fail: 10}, func() { time.Sleep(3 * time.Second) })
	w.check(20 * time.Second)
}
