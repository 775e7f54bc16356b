package fs

import (
	"errors"
	"sync"
	"time"

	"vitrine/fs/tree"
	"vitrine/repo/backend"
)

// vainFor is how soon the kernel asks again after an error, on a machine that has other things to do.
const vainFor = 100 * time.Millisecond

// vain knows the reads that waited for the store in vain. When a read of several pages fails the kernel asks at once
// for the page that somebody wants; without this he would wait twice as long as he was told. The zero value is ready.
type vain struct {
	mu    sync.Mutex // guards reads
	reads map[tree.NodeID]vainRead
}

type vainRead struct {
	from, to uint64 // of the file
	at       time.Time
	err      error
}

// put remembers a read if err says that the store was waited for.
func (v *vain) put(id tree.NodeID, from, to uint64, err error) {
	if !errors.Is(err, backend.ErrAway) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reads == nil || len(v.reads) >= maxRecent {
		v.reads = map[tree.NodeID]vainRead{}
	}
	v.reads[id] = vainRead{from, to, time.Now(), err}
}

// take returns the error of a read that has just failed there, once: whoever comes later waits again.
func (v *vain) take(id tree.NodeID, offset uint64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.reads[id]
	if !ok || offset < r.from || offset >= r.to {
		return nil
	}
	delete(v.reads, id)
	if time.Since(r.at) > vainFor {
		return nil
	}
	return r.err
}
