// Package mem is a backend in memory, for tests and for trying things out. It is honest:
// it copies on the way in and out, refuses what the contract refuses, and every Save is
// atomic. It has no notion of power loss; see package localtest for that.
package mem

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"vitrine/repo/backend"
)

// Backend is a backend.Backend in memory. The zero value is not ready, use New.
type Backend struct {
	mu    sync.RWMutex
	files map[backend.File][]byte // guarded by mu; the slices themselves never change
}

var _ backend.Backend = (*Backend)(nil)

// New returns an empty store.
func New() *Backend { return &Backend{files: make(map[backend.File][]byte)} }

// Clone returns an independent store with the same files.
func (b *Backend) Clone() *Backend {
	b.mu.RLock()
	defer b.mu.RUnlock()
	c := New()
	for f, content := range b.files {
		c.files[f] = content
	}
	return c
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	if err := ready(ctx, f); err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	content = slices.Clone(content)
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, exists := b.files[f]; exists && !backend.Replaces(ctx, f) {
		return fmt.Errorf("save %v: %w", f, backend.ErrExist)
	}
	b.files[f] = content
	return nil
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	content, err := b.content(ctx, f)
	if err == nil && (offsetBytes < 0 || offsetBytes > int64(len(content)) || int64(len(content))-offsetBytes < int64(len(p))) {
		err = fmt.Errorf("it has %d bytes: %w", len(content), backend.ErrShort)
	}
	if err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), err)
	}
	copy(p, content[offsetBytes:])
	return nil
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	content, err := b.content(ctx, f)
	if err == nil && int64(len(content)) > maxBytes {
		err = fmt.Errorf("%d bytes, at most %d allowed: %w", len(content), maxBytes, backend.ErrTooBig)
	}
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, err)
	}
	return append([]byte{}, content...), nil
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	content, err := b.content(ctx, f)
	if err != nil {
		return backend.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return backend.Info{Name: f.Name, SizeBytes: int64(len(content))}, nil
}

// List implements backend.Backend. It shows the files of the moment it was called.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	b.mu.RLock()
	var infos []backend.Info
	for f, content := range b.files {
		if f.Kind == kind {
			infos = append(infos, backend.Info{Name: f.Name, SizeBytes: int64(len(content))})
		}
	}
	b.mu.RUnlock()
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %v files: %w", kind, err)
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %v files: %w", kind, err)
	}
	return nil
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	if err := ready(ctx, f); err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, exists := b.files[f]; !exists {
		return fmt.Errorf("remove %v: %w", f, backend.ErrNotExist)
	}
	delete(b.files, f)
	return nil
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return "mem:" }

// Close implements backend.Backend; the files stay.
func (b *Backend) Close() error { return nil }

// content returns the stored bytes, which the caller must not change.
func (b *Backend) content(ctx context.Context, f backend.File) ([]byte, error) {
	if err := ready(ctx, f); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	content, exists := b.files[f]
	if !exists {
		return nil, backend.ErrNotExist
	}
	return content, nil
}

func ready(ctx context.Context, f backend.File) error {
	if err := f.Check(); err != nil {
		return err
	}
	return ctx.Err()
}
