package repo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/internal/indexfile"
)

// When packs are listed in an index file: as soon as they have indexBlobs blobs, or when the oldest
// of them is as old as a twelfth of the run, within indexSoonest and indexLatest. What a crash
// leaves unlisted is thus a small part of what was done, and so is what two clients store twice.
//
// How many index files a run makes at most: one each 3 s until it is 36 s old, then 12·ln(age/36 s)
// more, and after two hours one each 10 minutes. That is 18 in a minute, 67 in an hour, 124 in ten
// hours; and one for each 50 000 blobs if that comes first.
const (
	indexBlobs   = 50_000
	indexShare   = 12 // the part of the run's age
	indexSoonest = 3 * time.Second
	indexLatest  = 10 * time.Minute
)

// listPatience is how long a pack may wait for its index file in a run of that age.
func listPatience(age time.Duration) time.Duration {
	return min(max(age/indexShare, indexSoonest), indexLatest)
}

// lister is the part of a Writer that lists durable packs in index files, and looks each time what
// other clients have listed meanwhile. It works beside the uploads, which never wait for it.
type lister struct {
	r     *Repository
	began time.Time
	alone bool          // an exclusive lock is held: there is nobody to look for
	kick  chan struct{} // holds a token when something was noted that run has not looked at

	learned atomic.Bool                               // a look has found index files: blobs that are packed may be known by now
	others  atomic.Pointer[func(ctx context.Context)] // see Writer.OnOthers; nil while there is none

	mu    sync.Mutex       // guards the fields below
	packs []indexfile.Pack // durable, in no index file
	blobs int              // in packs
	due   time.Time        // when packs are to be listed, while there are some
	// seen are index files: our own, with the size ours, and those that the index was refreshed with, in the size that they
	// had: of a store that writes in place it may have been a part, or nothing yet.
	seen map[string]int64
}

// ours is the size in lister.seen of index files that need not be looked at, whatever their size is.
const ours = -1

// newLister returns the lister of a run that begins now. The index has just been refreshed, if the run looks at others.
func newLister(r *Repository) *lister {
	l := &lister{r: r, began: time.Now(), kick: make(chan struct{}, 1), seen: make(map[string]int64)}
	if listed := r.indexFiles.Load(); listed != nil {
		for _, info := range *listed {
			l.seen[info.Name] = info.SizeBytes
		}
	}
	return l
}

// note takes a durable pack.
func (l *lister) note(p indexfile.Pack) {
	l.mu.Lock()
	now := time.Now()
	if len(l.packs) == 0 {
		l.due = now.Add(listPatience(now.Sub(l.began)))
	}
	l.packs = append(l.packs, p)
	l.blobs += len(p.Blobs)
	if l.blobs >= indexBlobs {
		l.due = now
	}
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// wait returns a channel that fires when packs are due; nil when there are none.
func (l *lister) wait() <-chan time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.packs) == 0 {
		return nil
	}
	return time.After(time.Until(l.due))
}

// looksInVain is how many looks in a row find nothing before a run counts as alone again. While it is not, it looks
// lookShare times as often as it lists: what the others store is then known sooner.
const (
	looksInVain = 10
	lookShare   = 3
)

// run lists packs as they become due, until working ends. What is left then is the caller's to flush.
// ctx, which ends later or never, is that of the index files: one on its way is not given up.
func (l *lister) run(ctx, working context.Context) error {
	looks := 0 // left until the run is alone
	telling, cancel := context.WithCancel(working)
	others := &teller{l: l, busy: make(chan struct{}, 1)}
	defer others.calling.Wait()
	defer cancel()
	var again <-chan time.Time
	for {
		select {
		case <-working.Done():
			return nil
		case <-l.kick:
			continue
		case <-again:
		case <-l.wait():
			if err := l.flush(ctx); err != nil {
				return err
			}
		}
		if !l.alone && l.look(working) {
			others.tell(telling, looks == 0)
			looks = looksInVain
		}
		if again = nil; looks > 0 {
			looks--
			again = time.After(listPatience(time.Since(l.began)) / lookShare)
		}
	}
}

// teller calls lister.others, one call at a time. Index files do not wait for it.
type teller struct {
	l       *lister
	calling sync.WaitGroup
	busy    chan struct{} // holds a token during a call
	told    time.Duration // the age of the run at the last call
}

// tell calls when others are new, or when the run is twice as old as at the last call.
func (t *teller) tell(ctx context.Context, isNew bool) {
	fn, age := t.l.others.Load(), time.Since(t.l.began)
	if fn == nil || !isNew && age <= 2*t.told {
		return
	}
	select {
	case t.busy <- struct{}{}:
		t.told = age
		t.calling.Go(func() {
			(*fn)(ctx)
			<-t.busy
		})
	default:
	}
}

// flush writes the packs noted so far as one index file.
func (l *lister) flush(ctx context.Context) error {
	l.mu.Lock()
	packs := l.packs
	l.packs, l.blobs = nil, 0
	l.mu.Unlock()
	if len(packs) == 0 {
		return nil
	}
	id, err := l.r.SaveFile(ctx, backend.Index, indexfile.Append(nil, packs))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		for i := range packs {
			l.blobs += len(packs[i].Blobs)
		}
		l.packs = append(packs, l.packs...) // for the salvage of Write
		return fmt.Errorf("write index: %w", err)
	}
	l.seen[id.String()] = ours
	return nil
}

// look makes the blobs known that other clients have listed since the last look, and tells whether there were any. A
// run that is alone pays one listing for it: it does not read its own index files, nor those that there were before.
// That it fails costs space, so it is no error.
func (l *lister) look(ctx context.Context) bool {
	found, err := l.lookAt(ctx)
	if err != nil && ctx.Err() == nil {
		l.r.log.Warn("blobs that other clients store just now may be stored twice", "error", err)
	}
	return found
}

func (l *lister) lookAt(ctx context.Context) (found bool, err error) {
	infos, err := l.r.IndexFiles(ctx)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	unseen := slices.DeleteFunc(infos, func(info backend.Info) bool {
		size, ok := l.seen[info.Name]
		return ok && (size == ours || size == info.SizeBytes)
	})
	l.mu.Unlock()
	if len(unseen) == 0 {
		return false, nil
	}
	if err := l.r.index.Refresh(ctx); err != nil {
		return false, err
	}
	l.learned.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, info := range unseen {
		l.seen[info.Name] = info.SizeBytes
	}
	return true, nil
}
