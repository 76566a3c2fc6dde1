package simkafka

import (
	"encoding/binary"
	"fmt"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// parse reads a request and its answer.
func parse[Q kmsg.Request, A kmsg.Response](x *simnet.Exchange, answer []byte) (req Q, resp A, err error) {
	q := kmsg.RequestForKey(x.Key)
	q.SetVersion(x.Version)
	r := kbin.Reader{Src: x.Request[12:]}
	r.NullableString() // client id
	if q.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := r.Complete(); err != nil {
		return req, resp, fmt.Errorf("header of request %d: %w", x.Key, err)
	}
	if err := q.ReadFrom(r.Src); err != nil {
		return req, resp, fmt.Errorf("request %d: %w", x.Key, err)
	}
	a := q.ResponseKind()
	body := answer[8:]
	if a.IsFlexible() {
		body = body[1:] // no tags, as kfake writes them
	}
	if err := a.ReadFrom(body); err != nil {
		return req, resp, fmt.Errorf("answer to request %d: %w", x.Key, err)
	}
	return q.(Q), a.(A), nil
}

// frame is the answer as it goes over the wire.
func frame(correlation int32, resp kmsg.Response) []byte {
	b := make([]byte, 8, 256)
	if resp.IsFlexible() {
		b = append(b, 0)
	}
	b = resp.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	binary.BigEndian.PutUint32(b[4:], uint32(correlation))
	return b
}
