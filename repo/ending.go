package repo

import (
	"context"
	"sync/atomic"
	"time"
)

// Ending bounds what has to be done after the end of a context, such as removing a lock: all of it together, however
// many parts it has, from the moment of that end on. Its methods may be called in parallel.
type Ending struct {
	at   atomic.Pointer[time.Time]
	stop func() bool
}

// WatchEnd begins to wait for the end of ctx. Stop must be called when that is of no interest any more.
func WatchEnd(ctx context.Context) *Ending {
	e := new(Ending)
	e.stop = context.AfterFunc(ctx, func() {
		now := time.Now()
		e.at.Store(&now)
	})
	return e
}

// Stop gives up waiting.
func (e *Ending) Stop() { e.stop() }

// Context returns one with the values of ctx that goes on after its end: until total after the end that was watched, and
// for least at least. Without such an end it is total from now.
func (e *Ending) Context(ctx context.Context, total, least time.Duration) (context.Context, context.CancelFunc) {
	left := total
	if at := e.at.Load(); at != nil {
		left = max(total-time.Since(*at), least)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), left)
}
