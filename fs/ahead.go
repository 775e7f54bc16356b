package fs

import (
	"context"
	"time"

	"vitrine/repo"
	"vitrine/repo/blob"
)

const (
	// aheadTrees is how many directories ahead of a walk are known.
	aheadTrees = 64
	// aheadFirst is how much is read at first from a store nearby, so that it is there when the walk
	// comes to it; each time after that it is twice as much. A store far away is asked for as much as
	// the way holds at once.
	aheadFirst = 64 << 10
	aheadMost  = 4 << 20
	aheadFar   = time.Millisecond // latency from which on a store is far away
	// How much of the content of small files is in the cache ahead of a walk. Half of it is on its way
	// from a store far away, while the walk uses the other half.
	aheadNearBytes = 8 << 20
	aheadFarBytes  = 32 << 20
	// aheadRemembered bounds the directories for which it is known that they were loaded.
	aheadRemembered = 1 << 14
)

// lookAhead loads what a walk will want next: the trees of the directories that it comes to, and
// where it reads files, the small ones in them. It tells whether there is more to do: the walk has
// begun to read meanwhile.
func (p *pusher) lookAhead(ctx context.Context, c *client) bool {
	p.mu.Lock()
	at, reads := c.at, c.reads
	far, window := p.path.Latency() > aheadFar, int(p.path.Window())
	p.mu.Unlock()
	trees, bytes := 0, aheadNearBytes
	l := aheadLoad{pusher: p, batchBytes: aheadFirst, mostBytes: aheadMost}
	if far {
		bytes = max(aheadFarBytes, window)
		l.batchBytes, l.mostBytes = bytes/2, bytes/2
	}
	bytes = min(bytes, int(p.blobs.Stats().BudgetBytes/2))
	// Loads that nobody can give up run on this goroutine. The end of the cache is their end.
	patient := context.WithoutCancel(ctx)
	p.tree.Ahead(patient, at, func(dir uint32) bool {
		if reads {
			bytes -= l.add(patient, dir)
		} else {
			p.tree.Load(patient, dir)
		}
		trees++
		return trees < aheadTrees && bytes > 0 && ctx.Err() == nil
	})
	l.flush(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	c.left, c.refill = trees, trees/2
	c.ahead = c.reads && !reads && ctx.Err() == nil
	return c.ahead
}

// aheadLoad gathers the files of several directories, to read them together.
type aheadLoad struct {
	*pusher
	dirs       []uint32 // of the files in hs
	sums       []int    // bytes of each
	hs         []blob.Handle
	bytes      int
	batchBytes int // read together
	mostBytes  int // batchBytes grows up to here
}

// add notes the files of a directory and returns how many bytes of them are in the cache, or will
// be after flush.
func (l *aheadLoad) add(ctx context.Context, dir uint32) int {
	l.mu.Lock()
	sum, done := l.loaded[dir]
	if l.streams[dir] != nil { // the walk was here
		done, sum = true, 0
	}
	l.mu.Unlock()
	if done {
		return sum
	}
	files, _, err := l.tree.NextFiles(ctx, dir, 0, nextFiles(pushFiles))
	if err != nil {
		return 0
	}
	for i := range files {
		sum += files[i].Bytes
		if !files[i].Small() {
			l.expectLarge(ctx, files[i].ID)
			continue
		}
		h := blob.Handle{Type: blob.Data, ID: files[i].Blob}
		if _, cached := l.blobs.Peek(h); !cached {
			l.hs = append(l.hs, h)
			l.bytes += files[i].Bytes
		}
	}
	l.dirs, l.sums = append(l.dirs, dir), append(l.sums, sum)
	if l.bytes >= l.batchBytes {
		l.flush(ctx)
		l.batchBytes = min(2*l.batchBytes, l.mostBytes)
	}
	return sum
}

// flush loads what was added.
func (l *aheadLoad) flush(ctx context.Context) {
	took := time.Duration(0)
	if len(l.hs) > 0 {
		began := time.Now()
		l.read(ctx, l.hs, func(i int, open repo.OpenBlob) bool {
			if i == 0 {
				took = time.Since(began) // all of them are here
			}
			if _, cached := l.blobs.Peek(l.hs[i]); !cached { // else a reader was faster
				var plain []byte
				var err error
				l.spare.guess(func() { plain, err = open(nil) })
				if err == nil { // an error is the reader's to see
					l.blobs.Put(l.hs[i], plain)
					l.fetched(l.hs[i].ID, len(plain), &l.stats.push)
				}
			}
			return ctx.Err() == nil
		})
	}
	l.mu.Lock()
	if took > 0 {
		l.path.Sample(took, int64(l.bytes))
	}
	if len(l.loaded) > aheadRemembered {
		clear(l.loaded)
	}
	for i, dir := range l.dirs {
		l.loaded[dir] = l.sums[i]
	}
	l.mu.Unlock()
	l.dirs, l.sums, l.hs, l.bytes = l.dirs[:0], l.sums[:0], l.hs[:0], 0
}
