// Package sdk converts events between choreo and the CloudEvents SDK for Go (github.com/cloudevents/sdk-go/v2), for programs
// that meet the SDK at their edge: its HTTP server, its other protocols, code that speaks event.Event.
//
// It owns these two conversions and nothing else, and is a module of its own so that whoever does without the SDK does not
// get it. Its tests hold package cloudevent against the SDK's own Kafka binding.
package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// ToSDK converts an event to the SDK's. It returns a [*cloudevent.InvalidError] if the event is invalid.
//
// Attributes keep their exact value: the SDK's setters would trim blanks. choreoattempt and choreohops become integers, all
// other extensions strings. Data is shared, not copied, and marked to be base64 in structured mode unless it is JSON.
func ToSDK(e cloudevent.Event) (event.Event, error) {
	if err := e.Validate(); err != nil {
		return event.Event{}, fmt.Errorf("convert event to the CloudEvents SDK: %w", err)
	}
	context := &event.EventContextV1{
		ID:              e.ID,
		Source:          types.URIRef{URL: exactURL(e.Source)},
		Type:            e.Type,
		Subject:         optional(e.Subject),
		DataContentType: optional(e.DataContentType),
	}
	if e.DataSchema != "" {
		context.DataSchema = &types.URI{URL: exactURL(e.DataSchema)}
	}
	if !e.Time.IsZero() {
		context.Time = &types.Timestamp{Time: e.Time}
	}
	for name, value := range e.Attributes() {
		switch name {
		case "specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "time":
			continue
		}
		if context.Extensions == nil {
			context.Extensions = make(map[string]any)
		}
		context.Extensions[name] = value
	}
	if e.Attempt != 0 {
		context.Extensions["choreoattempt"] = int32(e.Attempt) // Validate keeps it within 32 bits
	}
	if e.Hops != 0 {
		context.Extensions["choreohops"] = int32(e.Hops) // Validate keeps it within 32 bits
	}
	isJSON := cloudevent.IsJSON(e.DataContentType) && utf8.Valid(e.Data) && json.Valid(e.Data)
	return event.Event{Context: context, DataEncoded: e.Data, DataBase64: e.Data != nil && !isJSON}, nil
}

func optional(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}

// exactURL makes a URL whose String is value to the byte. Source and id together identify an event, but net/url writes some
// URI-references differently from how it read them (HTTP://a becomes http://a) and refuses others; those stay opaque.
func exactURL(value string) url.URL {
	parsed, err := url.Parse(value)
	if err == nil && parsed.String() == value {
		return *parsed
	}
	if i := strings.IndexAny(value, ":/?#"); i > 0 && value[i] == ':' {
		return url.URL{Scheme: value[:i], Opaque: value[i+1:]}
	}
	return url.URL{Opaque: value}
}

// FromSDK converts an event of the SDK. It returns an error if the event is not of CloudEvents 1.0 (set the SDK event's spec
// version first), if one of the SDK's setters failed on it, or, as [*cloudevent.InvalidError], if it breaks a rule or a limit of
// package cloudevent. Extensions of other types than string become their canonical string form. Data is shared, not copied.
func FromSDK(from event.Event) (cloudevent.Event, error) {
	e, err := fromSDK(from)
	if err != nil {
		return cloudevent.Event{}, fmt.Errorf("convert event from the CloudEvents SDK: %w", err)
	}
	return e, nil
}

func fromSDK(from event.Event) (cloudevent.Event, error) {
	if from.Context == nil {
		return cloudevent.Event{}, errors.New("it has no context: make it with event.New")
	}
	if version := from.SpecVersion(); version != cloudevent.SpecVersion {
		return cloudevent.Event{}, fmt.Errorf("it has spec version %q: call SetSpecVersion(%q) on it first", version, cloudevent.SpecVersion)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(from.FieldErrors)) {
		errs = append(errs, fmt.Errorf("its attribute %q was set to a wrong value: %w", name, from.FieldErrors[name]))
	}
	e := cloudevent.Event{
		ID:              from.ID(),
		Source:          from.Source(),
		Type:            from.Type(),
		Subject:         from.Subject(),
		Time:            from.Time(),
		DataContentType: from.DataContentType(),
		DataSchema:      from.DataSchema(),
		Data:            from.DataEncoded,
	}
	extensions := from.Extensions()
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		value, err := types.Format(extensions[name])
		if err == nil {
			err = e.SetAttribute(name, value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("its extension %q: %w", name, err))
		}
	}
	return e, errors.Join(append(errs, e.Validate())...)
}
