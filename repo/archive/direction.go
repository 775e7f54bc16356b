package archive

import (
	"context"
	"sync"
	"time"

	"vitrine/repo"
)

// askAgain is when, after the last time, a first backup asks for its direction anew. Of two that begin at the same moment
// one may not see the other's lock, on a slow store or before the lock has settled; the earlier they agree, the less is stored twice.
var askAgain = []time.Duration{250 * time.Millisecond, 750 * time.Millisecond, time.Second, 2 * time.Second}

// keepDirection asks for the direction when w meets other clients and, in a first backup, in the first seconds. The run holds to
// the answers until stop, which waits for the last one.
func (a *run) keepDirection(ctx context.Context, w *repo.Writer, ask func(context.Context) (bool, error), first bool) (stop func()) {
	w.OnOthers(func(ctx context.Context) { a.turn(ctx, ask) })
	if !first {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		for _, pause := range askAgain {
			select {
			case <-time.After(pause):
				a.turn(ctx, ask)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		asking.Wait()
	}
}

// turn asks for the direction.
func (a *run) turn(ctx context.Context, ask func(context.Context) (bool, error)) {
	backwards, err := ask(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Info("what another client stores at the same time may be stored twice", "error", err)
		}
		return
	}
	if a.backwards.Swap(backwards) != backwards {
		a.log.Info("another client stores data at the same time: going on from the other end", "backwards", backwards)
	}
}
