// Package retry wraps a backend and makes calls again that failed for a reason that may pass
// (backend.IsPermanent says which do not). The pauses grow from half a second to half a minute, and each
// is drawn at random from its upper half, so that many clients do not come back together. The last one is as
// long as is left, so that a store is tried for as long as is said. The error is of class backend.ErrAway then.
//
// When any call is answered, those that are in a pause try at once, one after another, for the store is back. A
// call that fails all the same, because only some of what is asked works, does so less and less (bell).
//
// A store that has not answered once may be misspelled as well as away, so the first call is tried for a
// minute only, and for ten seconds when the name server knows no such host, or nothing there is a server.
//
// What a call means when it is made more than once:
//
//	Save     names are hashes of the content, so the same bytes are written again. A config that is there
//	         after a failure is read: with the same bytes it is ours, and all is well
//	ReadAt   p is filled anew
//	List     fn hears of each file once, whatever came before the failure; an error of fn ends it. A store that
//	         lists in the order of names goes on behind the last one (backend.WithAfter)
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
	"sync"
	"sync/atomic"
	"time"

	"vitrine/repo/backend"
)

// DefaultTotal is how long a call is made again when Options name no time.
const DefaultTotal = 15 * time.Minute

const (
	// FirstContact is how long a store is tried that has not yet answered: long enough for a line that
	// breaks or a server that is started, and not so long as one is waited for that is known to be there.
	FirstContact = time.Minute

	// unknown is the same where there is no such host or server: some tries, for a network that comes up late.
	unknown = 10 * time.Second
)

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second

	// quietFor is how long a call may fail before the person who waits is told.
	quietFor = 10 * time.Second
)

// Options say how long.
type Options struct {
	// Total is the time from the first failure of a call to its last try, so that a long transfer uses up
	// nothing of it; 0 means DefaultTotal. Until the store has answered once it is FirstContact at most.
	Total time.Duration
	// Strict ends also a try that is under way when Total is over, and the last one begins shortly before: for those
	// who have told somebody how long he waits. Without it a try may take as long as it moves, which on a slow line is
	// long, and no new one begins that is due after Total.
	Strict bool
	// Log hears of each try (info) and, once while the store does not answer and once for a call, a warning, and another
	// when that is over; nil discards.
	Log *slog.Logger
	// Waiting counts the calls that are being made again; nil: nobody wants to know.
	Waiting *Waiting
}

// Waiting counts calls that have failed and are being made again. The zero value is ready; its methods may be
// called in parallel.
type Waiting struct {
	mu    sync.Mutex // guards the rest
	calls int
	since time.Time // when the first failed while there was no other
}

// Calls returns how many calls are being made again, and since when there have always been some; with none, since
// is the zero time.
func (w *Waiting) Calls() (calls int, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == 0 {
		return 0, time.Time{}
	}
	return w.calls, w.since
}

func (w *Waiting) add(calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == 0 {
		w.since = time.Now()
	}
	w.calls += calls
}

// Backend is a backend.Backend that tries again.
type Backend struct {
	inner  backend.Backend
	total  time.Duration
	strict bool
	log    *slog.Logger
	wait   *Waiting
	back   bell
	warned atomic.Bool // the store does not answer, and that has been said

	outage   atomic.Pointer[outage] // of the whole store, whose end is to be told; nil: none
	answered atomic.Bool            // the store has done what a call asked for
	last     atomic.Int64           // when it did so last, in Unix nanoseconds
}

// outage is a trouble that has been warned of.
type outage struct {
	began time.Time
	over  string // says that it is
}

// tell says that the outage is over.
func (o *outage) tell(log *slog.Logger) {
	log.Warn(fmt.Sprintf("%s, after %v", o.over, time.Since(o.began).Round(time.Second)))
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
	if o.Waiting == nil {
		o.Waiting = new(Waiting)
	}
	return &Backend{inner: inner, total: o.Total, strict: o.Strict, log: o.Log, wait: o.Waiting}
}

// Do makes a call again as a Backend does its own, such as one that opens a store.
func Do(ctx context.Context, o Options, call func() error) error {
	return New(nil, o).try(ctx, func(context.Context, int) error { return call() })
}

// pause returns how long to wait after so many failures.
func pause(failures int) time.Duration {
	full := maxPause
	if failures < 8 {
		full = min(firstPause<<(failures-1), maxPause)
	}
	return full/2 + rand.N(full/2)
}

// patience is how long a call is made again that fails so.
func (b *Backend) patience(err error) time.Duration {
	switch {
	case b.answered.Load():
		return b.total
	case errors.Is(err, backend.ErrNoHost), errors.Is(err, backend.ErrNoServer):
		return min(b.total, unknown)
	}
	return min(b.total, FirstContact)
}

// trouble says in general what a call that failed has met, and how it is said later that it is over.
func trouble(err error) (is, over string) {
	if errors.Is(err, backend.ErrFails) {
		return "the server of the repository answers, but fails", "the server of the repository does its work again"
	}
	return "the repository does not answer", "the repository answers again"
}

// heard notes an answer of the store: an outage is over, which is told, so that the next one is told of again.
func (b *Backend) heard() {
	b.answered.Store(true)
	b.last.Store(time.Now().UnixNano())
	b.warned.Store(false)
	if o := b.outage.Swap(nil); o != nil {
		o.tell(b.log)
	}
}

// warn tells of a call that has failed since began and will be made again until end, unless the same trouble has been
// told of. Its end is told by the next call that is answered; but where others were answered meanwhile (quietFor/2), the
// trouble is that of the call, which then is to tell of the end of what warn returns.
func (b *Backend) warn(err error, began, end time.Time) (told bool, own *outage) {
	if !b.warned.CompareAndSwap(false, true) {
		return false, nil
	}
	is, over := trouble(err)
	b.log.Warn(is+"; trying on until "+end.Local().Format(time.TimeOnly), "error", err)
	o := &outage{began, over}
	if time.Since(time.Unix(0, b.last.Load())) < quietFor/2 {
		return true, o
	}
	b.outage.Store(o)
	return true, nil
}

// try calls do until it succeeds, fails for good or time is up. do is told how often it has failed.
func (b *Backend) try(ctx context.Context, do func(ctx context.Context, failures int) error) error {
	var early int       // tries before the end of their pause
	var began time.Time // of the trouble
	var err error
	told := false // of this call's trouble
	var own *outage
	answered := func() {
		b.heard()
		if own != nil {
			own.tell(b.log)
		}
	}
	for failures := 0; ; {
		var late bool
		if err, late = b.once(ctx, began, err, func(ctx context.Context) error { return do(ctx, failures) }); err == nil {
			answered()
			return nil
		}
		if backend.IsPermanent(err) {
			answered() // it is an answer too
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		if failures++; failures == 1 {
			began = time.Now()
			b.wait.add(1)
			defer b.wait.add(-1)
		}
		past, patience := time.Since(began), b.patience(err)
		left := patience - past
		wait := min(pause(failures), left) // so that the last try is at the end
		if b.strict && !late && wait > left/2 && left >= firstPause {
			wait = left / 2
		}
		if late || wait <= 0 || b.strict && wait == left {
			err = fmt.Errorf("%w (given up after %d tries in %v)", err, failures, past.Round(time.Second))
			return backend.Classed(backend.ErrAway, err)
		}
		b.log.Info("trying again", "pause", wait.Round(time.Millisecond).String(), "failures", failures, "error", err)
		woken, ended := b.rest(ctx, wait, early, quietFor-past, func() {
			if !told {
				told, own = b.warn(err, began, began.Add(patience))
			}
		})
		if ended != nil {
			return fmt.Errorf("%w, after: %w", ended, err)
		}
		if woken {
			early++
		}
	}
}

// rest is a pause in which warn is called at its time, when that is in it or over: the next failure may be far away.
func (b *Backend) rest(ctx context.Context, pause time.Duration, early int, warnIn time.Duration, warn func()) (woken bool, err error) {
	if warnIn <= 0 {
		warn()
	} else if warnIn < pause {
		warned := make(chan struct{})
		timer := time.AfterFunc(warnIn, func() {
			defer close(warned)
			warn()
		})
		defer func() {
			if !timer.Stop() {
				<-warned
			}
		}()
	}
	return b.back.sleep(ctx, pause, early)
}

// once makes a try. A strict one that follows a failure (last, since began) ends when the time is up; then late is true
// and the error is the last one, for that of a context would look as if the caller had ended it.
func (b *Backend) once(ctx context.Context, began time.Time, last error, do func(context.Context) error) (err error, late bool) {
	defer func() {
		if err == nil || backend.IsPermanent(err) {
			b.back.ring()
		}
	}()
	if !b.strict || last == nil {
		return do(ctx), false
	}
	limited, cancel := context.WithDeadline(ctx, began.Add(b.patience(last)))
	defer cancel()
	err = do(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil && !backend.IsPermanent(err) {
		return last, true
	}
	return err, false
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	return b.try(ctx, func(ctx context.Context, failures int) error {
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
	return b.try(ctx, func(ctx context.Context, _ int) error { return b.inner.ReadAt(ctx, f, p, offsetBytes) })
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) (content []byte, err error) {
	err = b.try(ctx, func(ctx context.Context, _ int) error {
		content, err = b.inner.ReadAll(ctx, f, maxBytes)
		return err
	})
	return content, err
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (info backend.Info, err error) {
	err = b.try(ctx, func(ctx context.Context, _ int) error {
		info, err = b.inner.Stat(ctx, f)
		return err
	})
	return info, err
}

// List implements backend.Backend. It remembers 32 bytes of each name.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	told := map[[32]byte]struct{}{}
	last, ordered := "", true // the name told last, and whether all came in the order of names
	var ended bool            // by fn
	var reason error
	err := b.try(ctx, func(ctx context.Context, _ int) error {
		if ordered {
			ctx = backend.WithAfter(ctx, last)
		}
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
			ordered = ordered && info.Name >= last
			last = info.Name
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
	return b.try(ctx, func(ctx context.Context, failures int) error {
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
