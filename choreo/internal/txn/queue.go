package txn

// queue holds what is gathered, in order. It is guarded by the pipeline's lock.
type queue struct {
	items []*Result
	head  int // items before it are taken
	loud  int // of the rest, those with outputs
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(r *Result) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		q.shift()
	}
	q.items = append(q.items, r)
	if len(r.Records) > 0 {
		q.loud++
	}
}

// shift moves what is left to the start.
func (q *queue) shift() {
	n := copy(q.items, q.items[q.head:])
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
}

// take appends to batch the first results, up to and including the one with
// which they have that many records or bytes.
func (q *queue) take(batch []*Result, records, bytes int) []*Result {
	from := q.head
	for q.head < len(q.items) && records > 0 && bytes > 0 {
		r := q.items[q.head]
		q.head++
		records -= len(r.Records)
		bytes -= r.bytes
		if len(r.Records) > 0 {
			q.loud--
		}
	}
	batch = append(batch, q.items[from:q.head]...)
	clear(q.items[from:q.head])
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return batch
}

func (q *queue) takeAll() []*Result {
	all := q.items[q.head:]
	*q = queue{}
	return all
}

// putBack puts results, which were taken, before all others.
func (q *queue) putBack(rs []*Result) {
	rest := q.takeAll()
	for _, r := range rs {
		q.push(r)
	}
	for _, r := range rest {
		q.push(r)
	}
}
