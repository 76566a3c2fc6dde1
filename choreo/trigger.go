package choreo

// Trigger gives a Step or a Reaction its input: an [Event], [AnyOf] several, or
// an [Upcast] of an older version; to a Step also [Both] or [All3] of several.
type Trigger[In any] interface {
	alternatives() []alternative[In]
	// joins is the join that the trigger is, nil if it is none; or why it cannot be
	// one.
	joins() (j *joinPlan, bad string)
}

// alternative is one event type that a trigger accepts, and how to read it.
type alternative[In any] struct {
	event  *eventDecl
	decode func(data []byte) (In, error)
}

func (e Event[T]) alternatives() []alternative[T] {
	d := e.decl()
	return []alternative[T]{{event: d, decode: decoder[T](d.codec)}}
}

func (Event[T]) joins() (*joinPlan, string) { return nil, "" }

func decoder[T any](c Codec) func([]byte) (T, error) {
	if _, ok := c.(Bytes); ok { // what is passed on as it is needs no variable on the heap
		same := func(data []byte) ([]byte, error) { return data, nil }
		if read, ok := any(same).(func([]byte) (T, error)); ok {
			return read
		}
	}
	return func(data []byte) (T, error) {
		var v T
		err := c.Unmarshal(data, &v)
		return v, err
	}
}

// read decodes, and turns a panic of a codec or of an Upcast's function into an
// error.
func (a alternative[In]) read(data []byte) (in In, err error) {
	return guarded(a.decode, data)
}

func guarded[T any](decode func([]byte) (T, error), data []byte) (v T, err error) {
	if p := protect(func() { v, err = decode(data) }); p != nil {
		err = p
	}
	return v, err
}

type anyOf[In any] []Trigger[In]

func (t anyOf[In]) alternatives() []alternative[In] {
	var all []alternative[In]
	for _, x := range t {
		if x == nil {
			continue
		}
		all = append(all, x.alternatives()...)
	}
	return all
}

func (t anyOf[In]) joins() (*joinPlan, string) {
	for _, x := range t {
		if x == nil {
			continue
		}
		if j, bad := x.joins(); j != nil || bad != "" {
			return nil, "AnyOf holds a join; declare a step for each of its alternatives"
		}
	}
	return nil, ""
}

// AnyOf triggers on each of several events: alternatives, or versions of one.
func AnyOf[In any](t ...Trigger[In]) Trigger[In] { return anyOf[In](t) }

type upcast[Old, In any] struct {
	old Event[Old]
	up  func(Old) In
}

func (u upcast[Old, In]) alternatives() []alternative[In] {
	d := u.old.decl()
	read := decoder[Old](d.codec)
	return []alternative[In]{{event: d, decode: func(data []byte) (In, error) {
		old, err := read(data)
		if err != nil {
			var zero In
			return zero, err
		}
		return u.up(old), nil
	}}}
}

func (upcast[Old, In]) joins() (*joinPlan, string) { return nil, "" }

// Upcast reads an older type of event as In. The journal keeps events as they
// were said, so a run of the old version is compensated through Upcast too.
func Upcast[Old, In any](old Event[Old], up func(Old) In) Trigger[In] {
	return upcast[Old, In]{old, up}
}
