// Package slow wraps a backend and makes it as slow as one far away: each request waits before its
// first byte, and all requests together share one line. It counts what was asked for. The bench
// measures with it, and it can be had for any store with -o slow.latency and -o slow.bandwidth.
//
// What a call costs:
//
//	every call       one request, and the latency once
//	ReadAt, ReadAll  the bytes read
//	Save             the bytes written, before the store behind sees them
//	List             the bytes of the names, at the end
//
// A call that fails costs its latency. Nothing is lost or reordered.
package slow

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"vitrine/repo/backend"
)

// Limits is how slow the store is. The zero value only counts.
type Limits struct {
	Latency        time.Duration // of each request, before its first byte
	BytesPerSecond int64         // of all requests together, in both directions; 0 means no limit
}

// Counts is what was asked of the store since New.
type Counts struct {
	Requests int64
	Bytes    int64 // carried, in both directions
}

// Backend is a backend.Backend that takes its time.
type Backend struct {
	inner   backend.Backend
	latency time.Duration
	line    *link // nil when bandwidth has no limit

	requests, bytes atomic.Int64
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner.
func New(inner backend.Backend, l Limits) *Backend {
	b := &Backend{inner: inner, latency: l.Latency}
	if l.BytesPerSecond > 0 {
		b.line = &link{bytesPerSecond: float64(l.BytesPerSecond)}
	}
	return b
}

// Counts returns what was asked of the store so far.
func (b *Backend) Counts() Counts {
	return Counts{Requests: b.requests.Load(), Bytes: b.bytes.Load()}
}

// begin counts a request and waits until its first byte.
func (b *Backend) begin(ctx context.Context) error {
	b.requests.Add(1)
	if b.latency <= 0 {
		return nil
	}
	timer := time.NewTimer(b.latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// carry waits until n bytes have come or gone, and counts them.
func (b *Backend) carry(ctx context.Context, n int64) error {
	if b.line != nil {
		if err := b.line.carry(ctx, n); err != nil {
			return err
		}
	}
	b.bytes.Add(n)
	return nil
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	err := b.begin(ctx)
	if err == nil {
		err = b.carry(ctx, int64(len(content)))
	}
	if err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	return b.inner.Save(ctx, f, content)
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if err := b.begin(ctx); err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), err)
	}
	if err := b.inner.ReadAt(ctx, f, p, offsetBytes); err != nil {
		return err
	}
	if err := b.carry(ctx, int64(len(p))); err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), err)
	}
	return nil
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	if err := b.begin(ctx); err != nil {
		return nil, fmt.Errorf("read %v: %w", f, err)
	}
	content, err := b.inner.ReadAll(ctx, f, maxBytes)
	if err != nil {
		return nil, err
	}
	if err := b.carry(ctx, int64(len(content))); err != nil {
		return nil, fmt.Errorf("read %v: %w", f, err)
	}
	return content, nil
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	if err := b.begin(ctx); err != nil {
		return backend.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return b.inner.Stat(ctx, f)
}

// List implements backend.Backend.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	if err := b.begin(ctx); err != nil {
		return fmt.Errorf("list %v: %w", kind, err)
	}
	var names int64
	err := b.inner.List(ctx, kind, func(info backend.Info) error {
		names += int64(len(info.Name))
		return fn(info)
	})
	if err != nil {
		return err
	}
	if err := b.carry(ctx, names); err != nil {
		return fmt.Errorf("list %v: %w", kind, err)
	}
	return nil
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	if err := b.begin(ctx); err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	return b.inner.Remove(ctx, f)
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.inner.Location() }

// Close implements backend.Backend.
func (b *Backend) Close() error { return b.inner.Close() }
