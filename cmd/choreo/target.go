package main

import (
	"errors"
	"fmt"
	"os/user"
	"regexp"
	"time"
)

// target says which service is meant.
type target struct {
	Service string        `required:"" help:"The service's name, without TOPIC_PREFIX." placeholder:"NAME"`
	Output  string        `help:"text or json." enum:"text,json" default:"text"`
	Timeout time.Duration `help:"Give up when the brokers have said nothing for so long." default:"30s"`
}

var serviceName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

func (d *target) problems() error {
	var all []error
	if !serviceName.MatchString(d.Service) {
		all = append(all, fmt.Errorf("--service=%q: must be the name of a service, of letters, digits, '.', '_' and '-'", d.Service))
	}
	if d.Timeout < time.Second {
		all = append(all, fmt.Errorf("--timeout=%v: must be at least 1s", d.Timeout))
	}
	return errors.Join(all...)
}

// userOr is who gives a command, unless another name was said.
func userOr(by string) string {
	if by != "" {
		return by
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}
