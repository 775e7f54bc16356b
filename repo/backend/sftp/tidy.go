package sftp

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
)

const (
	// tidyTime is how long the removal of the temporary file of a Save that has failed may take, and in Close that of all
	// that are left together. After a signal the index file and the lock are still to come, and somebody waits.
	tidyTime = 4 * time.Second
	// lateTime is how long a server may be busy with what it got on a connection that is lost.
	lateTime = 4 * time.Second
	// In Close it may take no longer than until the server has said nothing for awayTime, but tidyLeast in any case: a run
	// ends about 10 s after a signal, and where the server is away, the index file and the lock have had them.
	awayTime     = 10 * time.Second
	tidyLeast    = time.Second
	tidyPause    = 300 * time.Millisecond // between two attempts
	tidyParallel = 32                     // removals
)

// temporary is the file that a Save writes before it has its name. From the end of that Save on it belongs to who tidies.
type temporary struct {
	name   string
	unsure bool      // the server did not say whether it has made it: it may do so later
	failed time.Time // when Save did
	err    error     // of the last attempt to remove it
}

// isGone tells whether the file is not there and will not be.
func (t *temporary) isGone() bool {
	return t.err == nil || t.isMissing() && (!t.unsure || time.Since(t.failed) > lateTime)
}

func (t *temporary) isMissing() bool { return errors.Is(t.err, fs.ErrNotExist) }

// leftovers are the temporary files that Saves could not remove.
type leftovers struct {
	mu    sync.Mutex // guards files; a leaf in the order of locks
	files []*temporary
}

func (l *leftovers) add(files []*temporary) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, files...)
}

// take returns all and forgets them.
func (l *leftovers) take() []*temporary {
	l.mu.Lock()
	defer l.mu.Unlock()
	files := l.files
	l.files = nil
	return files
}

// tidy removes the temporary file of a Save that failed, also when it failed because its context has ended or its
// connection was lost. When it cannot, that is left to the next Save that succeeds, and to Close.
func (b *Backend) tidy(ctx context.Context, file *temporary) {
	file.failed = time.Now()
	again := func(t *temporary) bool { return !t.isMissing() } // one that is missing and may come later is not waited for here
	b.left.add(b.remove(ctx, tidyTime, []*temporary{file}, again))
}

// tidyMore tries to remove once what is left of other Saves, over a line that works.
func (b *Backend) tidyMore(ctx context.Context) {
	if files := b.left.take(); len(files) > 0 {
		b.left.add(b.remove(ctx, tidyTime, files, func(*temporary) bool { return false }))
	}
}

// tidyLast removes what is left, or gives it up.
func (b *Backend) tidyLast(ctx context.Context) {
	limit := min(tidyTime, max(tidyLeast, awayTime-time.Since(time.Unix(0, b.pool.heard.Load()))))
	for _, t := range b.remove(ctx, limit, b.left.take(), func(*temporary) bool { return true }) {
		if !t.isMissing() {
			b.giveUp(t)
		}
	}
}

func (b *Backend) giveUp(t *temporary) {
	b.cfg.log().Warn("a temporary file may be left on the server", "file", t.name, "error", t.err)
}

// remove removes temporary files, all once and then again as long as one is left for which again says so. It takes at most
// the time of limit, whether the context has ended or not, and returns those that may be there still. What the server refuses to
// remove is given up.
func (b *Backend) remove(ctx context.Context, limit time.Duration, files []*temporary, again func(*temporary) bool) []*temporary {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for {
		var group errgroup.Group
		group.SetLimit(tidyParallel)
		for _, t := range files {
			group.Go(func() error {
				err := b.on(ctx, "", 0, leave, func(c *conn) error { return c.client.Remove(t.name) })
				if ctx.Err() == nil || t.err == nil { // else the answer before tells more
					t.err = err
				}
				return nil
			})
		}
		_ = group.Wait() // each has its own
		files = slices.DeleteFunc(files, func(t *temporary) bool {
			refused := !t.isMissing() && backend.IsPermanent(b.explain(t.err))
			if refused {
				b.giveUp(t)
			}
			return refused || t.isGone()
		})
		if !slices.ContainsFunc(files, again) {
			return files
		}
		select {
		case <-time.After(tidyPause):
		case <-ctx.Done():
			return files
		}
	}
}
