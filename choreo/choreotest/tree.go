package choreotest

import (
	"fmt"
	"strings"
)

// Tree shows all events of a flow, each below the one that caused it, with
// who said it, what the step did and the payload; and last its dead letters.
func (s *Service) Tree(flow string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flows[flow]
	if f == nil || len(f.events)+len(f.dead) == 0 {
		return "    (no event of this flow was seen)"
	}
	known := map[string]bool{}
	children := map[string][]int{}
	for _, e := range f.events {
		known[e.ID] = true
	}
	var roots []int
	for i, e := range f.events {
		if e.CausationID != "" && known[e.CausationID] && e.CausationID != e.ID {
			children[e.CausationID] = append(children[e.CausationID], i)
		} else {
			roots = append(roots, i)
		}
	}
	var b strings.Builder
	printed := map[int]bool{}
	var branch func(i, depth int)
	branch = func(i, depth int) {
		if printed[i] {
			return
		}
		printed[i] = true
		e := &f.events[i]
		by := "published"
		if e.Service != "" {
			by = strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Service, e.Step, e.Kind))
		}
		payload := bounded(fmt.Sprintf("%+v", e.emission.Data))
		if e.err != nil {
			payload = fmt.Sprintf("%s (%v)", bounded(fmt.Sprintf("%q", e.Data)), e.err)
		}
		fmt.Fprintf(&b, "    %s%s  [%s]  %s\n", strings.Repeat("  ", depth), e.Type, by, payload)
		for _, c := range children[e.ID] {
			branch(c, depth+1)
		}
	}
	for _, i := range roots {
		branch(i, 0)
	}
	for i := range f.events { // what goes round in a circle has no root
		branch(i, 0)
	}
	for _, d := range f.dead {
		fmt.Fprintf(&b, "    dead letter  [%s]  %s\n", d.Header("ce_type"), d.why())
	}
	return strings.TrimRight(b.String(), "\n")
}

// bounded keeps one large payload from hiding the tree.
func bounded(s string) string {
	const most = 500
	if len(s) > most {
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
	}
	return s
}
