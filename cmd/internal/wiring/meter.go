package wiring

import (
	"context"
	"sync/atomic"
	"time"

	"vitrine/fs"
	"vitrine/repo/backend"
	"vitrine/repo/backend/retry"
)

// Meter counts what is asked of a store. The zero value is ready; all methods may be called in
// parallel.
type Meter struct {
	requests, inFlight, errors   atomic.Int64
	bytesRead, indexFiles, nanos atomic.Int64

	storing atomic.Int64 // bytes of files that are being saved
	waiting retry.Waiting
}

// StoringBytes returns the size of the files that are on their way to the store now.
func (m *Meter) StoringBytes() int64 { return m.storing.Load() }

// Traffic returns the counts so far.
func (m *Meter) Traffic() fs.Traffic {
	waiting, since := m.waiting.Calls()
	return fs.Traffic{
		Requests: m.requests.Load(), BytesRead: m.bytesRead.Load(), IndexFiles: m.indexFiles.Load(),
		Errors: m.errors.Load(), InFlight: m.inFlight.Load(), Seconds: time.Duration(m.nanos.Load()).Seconds(),
		Waiting: waiting, WaitingSince: since,
	}
}

// request counts one, which returns how many bytes it read.
func (m *Meter) request(do func() (bytesRead int, err error)) error {
	began := time.Now()
	m.requests.Add(1)
	m.inFlight.Add(1)
	bytesRead, err := do()
	m.inFlight.Add(-1)
	m.nanos.Add(int64(time.Since(began)))
	if err != nil {
		m.errors.Add(1)
		return err
	}
	m.bytesRead.Add(int64(bytesRead))
	return nil
}

// metered counts the calls of a store. Those that write count as requests of no bytes.
type metered struct {
	backend.Backend
	m *Meter
}

// ReadAt implements backend.Backend.
func (b metered) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	return b.m.request(func() (int, error) {
		return len(p), b.Backend.ReadAt(ctx, f, p, offsetBytes)
	})
}

// ReadAll implements backend.Backend.
func (b metered) ReadAll(ctx context.Context, f backend.File, maxBytes int64) (content []byte, err error) {
	err = b.m.request(func() (int, error) {
		content, err = b.Backend.ReadAll(ctx, f, maxBytes)
		return len(content), err
	})
	if err == nil && f.Kind == backend.Index {
		b.m.indexFiles.Add(1)
	}
	return content, err
}

// Stat implements backend.Backend.
func (b metered) Stat(ctx context.Context, f backend.File) (info backend.Info, err error) {
	err = b.m.request(func() (int, error) {
		info, err = b.Backend.Stat(ctx, f)
		return 0, err
	})
	return info, err
}

// List implements backend.Backend.
func (b metered) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	return b.m.request(func() (int, error) { return 0, b.Backend.List(ctx, kind, fn) })
}

// Save implements backend.Backend.
func (b metered) Save(ctx context.Context, f backend.File, content []byte) error {
	b.m.storing.Add(int64(len(content)))
	defer b.m.storing.Add(-int64(len(content)))
	return b.m.request(func() (int, error) { return 0, b.Backend.Save(ctx, f, content) })
}

// Remove implements backend.Backend.
func (b metered) Remove(ctx context.Context, f backend.File) error {
	return b.m.request(func() (int, error) { return 0, b.Backend.Remove(ctx, f) })
}
