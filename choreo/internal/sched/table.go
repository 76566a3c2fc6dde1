package sched

import "hash/maphash"

// table finds the queue of a key. It is a hash table of its own for two reasons
// that a map does not allow: the hash is computed outside the scheduler's lock,
// and a queue leaves without another look-up. Per item that is more than all
// else that is done under the lock.
type table struct {
	buckets []*queue // chains; the length is a power of two
	n       int
}

const fewestBuckets = 64

// hash mixes the task into the hash of the name, whose seed is secret: names
// come from outside and must not be able to collide on purpose.
func hash(seed maphash.Seed, key Key) uint64 {
	return maphash.String(seed, key.Name) ^ uint64(uint32(key.Task))*0x9e3779b97f4a7c15
}

func (t *table) bucket(hash uint64) **queue {
	return &t.buckets[(hash^hash>>32)&uint64(len(t.buckets)-1)]
}

// get returns nil if the key has no queue.
func (t *table) get(hash uint64, key Key) *queue {
	if t.n == 0 {
		return nil
	}
	q := *t.bucket(hash)
	for q != nil && (q.hash != hash || q.key != key) {
		q = q.chain
	}
	return q
}

// put adds a queue whose key is not there.
func (t *table) put(q *queue) {
	if t.n >= len(t.buckets) {
		t.resize(max(fewestBuckets, 2*len(t.buckets)))
	}
	b := t.bucket(q.hash)
	q.chain, *b = *b, q
	t.n++
}

func (t *table) remove(q *queue) {
	b := t.bucket(q.hash)
	for *b != q {
		b = &(*b).chain
	}
	*b, q.chain = q.chain, nil
	if t.n--; t.n == 0 && len(t.buckets) > mostBuckets {
		t.buckets = nil
	}
}

func (t *table) resize(size int) {
	old := t.buckets
	t.buckets = make([]*queue, size)
	for _, q := range old {
		for q != nil {
			next := q.chain
			b := t.bucket(q.hash)
			q.chain, *b = *b, q
			q = next
		}
	}
}

// all calls f with every queue.
func (t *table) all(f func(*queue)) {
	for _, q := range t.buckets {
		for ; q != nil; q = q.chain {
			f(q)
		}
	}
}
