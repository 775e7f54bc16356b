package tree

import (
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
