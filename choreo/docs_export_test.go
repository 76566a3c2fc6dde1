package choreo

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// What the documentation is held to, for the tests outside the package.

// HelpOf is what the service's program prints for --help.
func HelpOf(s *Service) string {
	var b strings.Builder
	mainWith(context.Background(), s, []string{"--help"}, nil, &b, &b)
	return b.String()
}

// DeadLetterReasons are all reasons of dead letters.
func DeadLetterReasons() []string { return slices.Clone(deadLetterReasons) }

var describedName = regexp.MustCompile(`fqName: "(choreo_[^"]+)"`)

// MetricsOf names the metrics of a service, those of its Kafka clients included.
func MetricsOf(s *Service) []string {
	reg := prometheus.NewRegistry()
	newMetrics(reg, newPlan(s)).clients.Hook("lane")
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		reg.Describe(descriptions)
	}()
	var names []string
	for d := range descriptions {
		if m := describedName.FindStringSubmatch(d.String()); m != nil {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
