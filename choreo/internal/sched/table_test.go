package sched

import "testing"

// Two keys of one hash are two keys.
func TestKeysOfOneHashAreToldApart(t *testing.T) {
	var tab table
	a, b := &queue{key: Key{Task: 1, Name: "a"}, hash: 42}, &queue{key: Key{Task: 1, Name: "b"}, hash: 42}
	tab.put(a)
	tab.put(b)
	for _, q := range []*queue{a, b} {
		if got := tab.get(42, q.key); got != q {
			t.Errorf("key %v finds %v", q.key, got)
		}
	}
	if got := tab.get(42, Key{Task: 2, Name: "a"}); got != nil {
		t.Errorf("a key that is not there finds %v", got.key)
	}
	tab.remove(a)
	if got := tab.get(42, b.key); got != b || tab.get(42, a.key) != nil {
		t.Errorf("after the other one is gone, key %v finds %v", b.key, got)
	}
}
