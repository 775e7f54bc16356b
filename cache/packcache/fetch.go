package packcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// flight is the work on one pack that all who want it share. Its results are set before done is closed.
type flight struct {
	done    chan struct{}
	late    time.Time          // until when it is worth waiting for
	pack    *pack              // the file can be read
	cancel  context.CancelFunc // for Close; no caller may end what others wait for
	content []byte             // the whole pack, when it was fetched just now
	err     error              // errDirect, or an error for the caller
}

// wait returns the error for the caller, errDirect when the flight takes too long, or nil when it has
// brought the pack.
func (fl *flight) wait(ctx context.Context, f backend.File) error {
	select {
	case <-fl.done:
		return fl.err
	default:
	}
	late := time.NewTimer(time.Until(fl.late))
	defer late.Stop()
	select {
	case <-fl.done:
		return fl.err
	case <-late.C:
		return errDirect
	case <-ctx.Done():
		return fmt.Errorf("read %v: %w", f, ctx.Err())
	}
}

// get returns the pack when this process knows it, or else a flight that will. Both are nil when the
// pack is not kept.
func (b *Backend) get(ctx context.Context, f backend.File) (*pack, *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pk := b.packs[f.Name]; pk != nil {
		return pk, nil
	}
	if fl := b.flights[f.Name]; fl != nil {
		return nil, fl
	}
	if until, ok := b.direct[f.Name]; ok {
		if time.Now().Before(until) {
			return nil, nil
		}
		delete(b.direct, f.Name)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight{done: make(chan struct{}), late: time.Now().Add(b.patience), cancel: cancel}
	b.flights[f.Name] = fl
	b.tasks.Go(func() {
		defer cancel()
		kept := b.fly(ctx, f, fl)
		b.mu.Lock()
		delete(b.flights, f.Name)
		if fl.pack != nil {
			b.packs[f.Name] = fl.pack
		} else if !kept {
			b.direct[f.Name] = time.Now().Add(directFor)
		}
		b.mu.Unlock()
		close(fl.done)
	})
	return nil, fl
}

// fly verifies the file of a pack, or fetches it. False means that it is no use to try again soon.
func (b *Backend) fly(ctx context.Context, f backend.File, fl *flight) bool {
	var err error
	if fl.pack, err = verify(b.disk.path(f), f.Name); err == nil {
		return true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		b.disk.trouble("verify", err)
		b.disk.remove(f)
	}
	select {
	case b.queue <- struct{}{}:
		defer func() { <-b.queue }()
	default:
		fl.err = errDirect
		return true
	}
	b.slots <- struct{}{} // Close ends those that have them
	defer func() { <-b.slots }()
	content, err := b.Backend.ReadAll(ctx, f, b.disk.largest())
	switch {
	case errors.Is(err, backend.ErrNotExist), err != nil && ctx.Err() != nil:
		fl.err = err
		return true
	case err != nil:
		// One bad spot may spoil the whole, or the store may be away for longer than is tried: the range may be
		// readable. Only its size stays as it is.
		b.log.Debug("a pack is not kept on the local disk", "error", err)
		fl.err = errDirect
		return !errors.Is(err, backend.ErrTooBig)
	case blob.Hash(content).String() != f.Name:
		b.log.Debug("a pack is not kept on the local disk: its content does not match its name", "pack", f.Name)
		fl.err = errDirect
		return false
	}
	fl.content = content
	if err := b.disk.publish(f, content); err != nil {
		b.disk.trouble("write", err)
		return false
	}
	fl.pack = describe(content)
	return true
}
