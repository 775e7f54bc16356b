package archive

import (
	"context"
	"sync"
	"time"

	"vitrine/repo"
)

// A first backup asks for its direction anew when it is as old as askFirst, and then each time that it is four times, after askRarely
// twice as old. Of two that begin at the same moment one may not see the other's lock, on a slow store, before the lock has settled,
// or on a cluster whose servers do not all reach each other; the earlier they agree, the less is stored twice. The time
// that answers take comes on top of these ages.
const (
	askFirst  = 30 * time.Millisecond
	askRarely = time.Second
)

// keepDirection asks for the direction when w meets other clients and, in a first backup, also without that. The run holds to
// the answers until stop, which waits for the last one.
func (a *run) keepDirection(ctx context.Context, w *repo.Writer, ask func(context.Context) (bool, error), first bool) (stop func()) {
	began := time.Now()
	w.OnOthers(func(ctx context.Context) { a.askDirection(ctx, ask, began) })
	if !first {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		for age, next := time.Duration(0), askFirst; ; age, next = next, max(2*next, min(4*next, askRarely)) {
			select {
			case <-time.After(next - age):
				a.askDirection(ctx, ask, began)
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

// askDirection asks for the direction of a backup that began at began, and turns if it is another one.
func (a *run) askDirection(ctx context.Context, ask func(context.Context) (bool, error), began time.Time) {
	backwards, err := ask(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Info("what another client stores at the same time may be stored twice", "error", err)
		}
		return
	}
	if a.backwards.Swap(backwards) != backwards {
		a.jobs.turn()
		a.log.Info("another client stores data at the same time: going on from the other end", "backwards", backwards, "after", time.Since(began).Round(time.Millisecond).String())
	}
}
