package tree

import (
	"context"
	"io"
	"sync"
	"time"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

const (
	// hugeSlots is how many huge directories stay: two, for programs that compare a
	// directory with another one.
	hugeSlots = 2
	// hugeIdle is how long they stay after their last use.
	hugeIdle = time.Minute
)

// hugeTrees keeps parsed tree blobs that do not fit the cache. A directory of a million entries
// is listed in hundreds of requests, and to read it anew for each of them would take hours.
type hugeTrees struct {
	mu    sync.Mutex // guards slots
	slots [hugeSlots]hugeTree
}

type hugeTree struct {
	id   blob.ID
	c    *snapshot.Compact // nil: the slot is free
	used time.Time
}

func (h *hugeTrees) get(id blob.ID) *snapshot.Compact {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.slots {
		if s := &h.slots[i]; s.c != nil && s.id == id {
			s.used = time.Now()
			return s.c
		}
	}
	return nil
}

// keep takes the slot that was used longest ago.
func (h *hugeTrees) keep(id blob.ID, c *snapshot.Compact) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := &h.slots[0]
	for i := range h.slots {
		if h.slots[i].used.Before(oldest.used) {
			oldest = &h.slots[i]
		}
	}
	*oldest = hugeTree{id, c, time.Now()}
}

// expire frees what was not used lately.
func (h *hugeTrees) expire(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.slots {
		if now.Sub(h.slots[i].used) > hugeIdle {
			h.slots[i] = hugeTree{}
		}
	}
}

// streamSource is a Source that gives large blobs in pieces; *repo.Repository is one.
type streamSource interface {
	StreamBlob(ctx context.Context, h blob.Handle, buf []byte, largeBytes int) ([]byte, io.ReadCloser, error)
}

// largeBytes of JSON are parsed while they are decoded and verified. A directory of a million entries
// has some 300 MB: to have it all in memory would take most of the time.
const largeBytes = 4 << 20

// read returns the JSON of a tree blob, appended to buf[:0], or instead the parsed tree when it is
// large. Either is verified.
func (t *Tree) read(ctx context.Context, h blob.Handle, buf []byte) ([]byte, *snapshot.Compact, error) {
	src, ok := t.src.(streamSource)
	if !ok {
		plain, err := t.src.ReadBlob(ctx, h, buf)
		return plain, nil, err
	}
	plain, stream, err := src.StreamBlob(ctx, h, buf, largeBytes)
	if err != nil || stream == nil {
		return plain, nil, err
	}
	defer stream.Close()
	loc, _, err := t.src.LookupBlob(h)
	if err != nil {
		return nil, nil, err
	}
	if c, err := snapshot.ReadCompact(stream, int(loc.Size())); err == nil {
		return nil, c, nil
	}
	// Damaged, or not as most clients write it. The slow way takes both, or says what is wrong.
	plain, err = t.src.ReadBlob(ctx, h, buf)
	return plain, nil, err
}
