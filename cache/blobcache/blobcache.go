// Package blobcache keeps plain blobs, and what is made from them, in RAM within a budget of bytes.
package blobcache

import (
	"context"

	"vitrine/repo/blob"
)

// Cache maps keys to values of known size.
type Cache[K comparable, V any] struct{}

// Blobs is the cache of plain blobs.
type Blobs = Cache[blob.Handle, []byte]

// New returns a cache; sizeBytes tells what a value weighs.
func New[K comparable, V any](budgetBytes int64, sizeBytes func(V) int64) *Cache[K, V] {
	panic("not yet")
}

// NewBlobs returns a cache of plain blobs.
func NewBlobs(budgetBytes int64) *Blobs { panic("not yet") }

// Get returns the value of key, loading it when missing.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load func(ctx context.Context) (V, error)) (V, error) {
	panic("not yet")
}

// Peek returns the value when it is there.
func (c *Cache[K, V]) Peek(key K) (V, bool) { panic("not yet") }

// Stats are counters since New.
type Stats struct {
	Hits, Misses, Shared, Evictions int64
	Entries                         int
	Bytes, BudgetBytes              int64
}

// Stats returns the counters.
func (c *Cache[K, V]) Stats() Stats { panic("not yet") }

// Close cancels all loads and waits for them.
func (c *Cache[K, V]) Close() error { panic("not yet") }
