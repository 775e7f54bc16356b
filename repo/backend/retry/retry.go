// Package retry wraps a backend and makes calls again that failed for a reason that may pass
// (backend.IsPermanent says which do not). The pauses grow from half a second to half a minute, and each
// is drawn at random from its upper half, so that many clients do not come back together.
//
// What a call means when it is made more than once:
//
//	Save     names are hashes of the content, so the same bytes are written again. A config that is there
//	         after a failure is read: with the same bytes it is ours, and all is well
//	ReadAt   p is filled anew
//	List     fn hears of each file once, whatever came before the failure; an error of fn ends it
//	Remove   a file that is missing after a failure was removed by the call that failed
package retry

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"vitrine/repo/backend"
)

// DefaultTotal is how long a call is made again when Options name no time.
const DefaultTotal = 15 * time.Minute

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second

	// quietFor is how long a call may fail before the person who waits is told.
	quietFor = 10 * time.Second
)

// Options say how long.
type Options struct {
	// Total is the time from the first failure of a call to its last try, so that a long transfer uses up
	// nothing of it; 0 means DefaultTotal.
	Total time.Duration
	// Log hears of each try (info) and, once while the store does not answer, a warning; nil discards.
	Log *slog.Logger
}

// Backend is a backend.Backend that tries again.
type Backend struct {
	inner  backend.Backend
	total  time.Duration
	log    *slog.Logger
	warned atomic.Bool // the store does not answer, and that has been said
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner.
func New(inner backend.Backend, o Options) *Backend {
	if o.Total == 0 {
		o.Total = DefaultTotal
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Backend{inner: inner, total: o.Total, log: o.Log}
}

// Do makes a call again as a Backend does its own, such as one that opens a store.
func Do(ctx context.Context, o Options, call func() error) error {
	return New(nil, o).try(ctx, func(int) error { return call() })
}

// pause returns how long to wait after so many failures.
func pause(failures int) time.Duration {
	full := maxPause
	if failures < 8 {
		full = min(firstPause<<(failures-1), maxPause)
	}
	return full/2 + rand.N(full/2)
}

// try calls do until it succeeds, fails for good or time is up. do is told how often it has failed.
func (b *Backend) try(ctx context.Context, do func(failures int) error) error {
	var began time.Time // of the trouble
	for failures := 0; ; {
		err := do(failures)
		if err == nil {
			if failures > 0 {
				b.warned.Store(false)
			}
			return nil
		}
		if backend.IsPermanent(err) || ctx.Err() != nil {
			return err
		}
		if failures++; failures == 1 {
			began = time.Now()
		}
		wait := pause(failures)
		past := time.Since(began)
		if past+wait > b.total {
			return fmt.Errorf("%w (given up after %d tries in %v)", err, failures, past.Round(time.Second))
		}
		b.log.Info("trying again", "pause", wait.Round(time.Millisecond).String(), "failures", failures, "error", err)
		if past > quietFor && b.warned.CompareAndSwap(false, true) {
			b.log.Warn("the repository does not answer; trying on until "+began.Add(b.total).Local().Format(time.TimeOnly), "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w, after: %w", ctx.Err(), err)
		}
	}
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	return b.try(ctx, func(failures int) error {
		err := b.inner.Save(ctx, f, content)
		if failures == 0 || !errors.Is(err, backend.ErrExist) {
			return err
		}
		stored, readErr := b.inner.ReadAll(ctx, f, int64(len(content)))
		switch {
		case readErr == nil && bytes.Equal(stored, content):
			return nil
		case readErr != nil && !backend.IsPermanent(readErr):
			return readErr
		}
		return err
	})
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	return b.try(ctx, func(int) error { return b.inner.ReadAt(ctx, f, p, offsetBytes) })
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) (content []byte, err error) {
	err = b.try(ctx, func(int) error {
		content, err = b.inner.ReadAll(ctx, f, maxBytes)
		return err
	})
	return content, err
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (info backend.Info, err error) {
	err = b.try(ctx, func(int) error {
		info, err = b.inner.Stat(ctx, f)
		return err
	})
	return info, err
}

// List implements backend.Backend. It remembers 32 bytes of each name.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	told := map[[32]byte]struct{}{}
	var ended bool // by fn
	var reason error
	err := b.try(ctx, func(int) error {
		err := b.inner.List(ctx, kind, func(info backend.Info) error {
			var id [32]byte
			if len(info.Name) == hex.EncodedLen(len(id)) {
				// List leaves out what is no name, so that this cannot fail.
				_, _ = hex.Decode(id[:], []byte(info.Name))
			}
			if _, again := told[id]; again {
				return nil
			}
			told[id] = struct{}{}
			if err := fn(info); err != nil {
				ended, reason = true, err
				return err
			}
			return nil
		})
		if ended {
			return nil
		}
		return err
	})
	if ended {
		return reason
	}
	return err
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	return b.try(ctx, func(failures int) error {
		err := b.inner.Remove(ctx, f)
		if failures > 0 && errors.Is(err, backend.ErrNotExist) {
			return nil
		}
		return err
	})
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.inner.Location() }

// Close implements backend.Backend.
func (b *Backend) Close() error { return b.inner.Close() }
