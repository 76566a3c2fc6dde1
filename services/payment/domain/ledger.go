package domain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
)

// ErrVoided is returned for a hold under a key that was voided.
var ErrVoided = errors.New("the hold was voided")

// MemoryLedger is a Ledger in memory, in the place of a payment provider. It
// derives the ids of holds and refunds from their keys, so a repeated wish gets
// the same answer even from a ledger that has forgotten it, as after a
// restart. The zero value is ready; it may be used by any number of goroutines.
type MemoryLedger struct {
	mu      sync.Mutex
	entries map[string]*hold // by hold id
	ids     []string         // of entries, oldest first; a ring once it is full
	oldest  int
}

type hold struct {
	customer string
	cents    int64
	released bool
	voided   bool // released because nobody knew of it; it cannot be held any more
}

// maxEntries bounds the memory: of older holds only the ids are good.
const maxEntries = 100_000

// Hold implements [Ledger].
func (l *MemoryLedger) Hold(_ context.Context, key, customer string, cents int64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := entryID("hold", key)
	if h := l.entries[id]; h != nil {
		if h.voided {
			return "", ErrVoided
		}
		if h.customer != customer || h.cents != cents {
			return "", fmt.Errorf("hold %s has this key already and is not the same", id)
		}
		return id, nil
	}
	l.add(id, &hold{customer: customer, cents: cents})
	return id, nil
}

// Refund implements [Ledger].
func (l *MemoryLedger) Refund(_ context.Context, key, holdID string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.entries[holdID]; h != nil {
		h.released = true
	}
	return entryID("refund", key), nil
}

// Void implements [Ledger].
func (l *MemoryLedger) Void(_ context.Context, holdKey string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := entryID("hold", holdKey)
	if h := l.entries[id]; h != nil {
		h.released, h.voided = true, true
		return nil
	}
	l.add(id, &hold{released: true, voided: true})
	return nil
}

// Held returns how much of a customer's money is held.
func (l *MemoryLedger) Held(customer string) (cents int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.entries {
		if h.customer == customer && !h.released {
			cents += h.cents
		}
	}
	return cents
}

func (l *MemoryLedger) add(id string, h *hold) {
	if l.entries == nil {
		l.entries = map[string]*hold{}
	}
	if len(l.ids) < maxEntries {
		l.ids = append(l.ids, id)
	} else {
		delete(l.entries, l.ids[l.oldest])
		l.ids[l.oldest] = id
		l.oldest = (l.oldest + 1) % maxEntries
	}
	l.entries[id] = h
}

func entryID(kind, key string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + key))
	return kind + "-" + hex.EncodeToString(sum[:12])
}
