package compress

import (
	"runtime"
	"sync"
)

// stack keeps memory for what only one call at a time can use (up to several MiB each; contexts of libzstd have it outside of Go's heap):
// the next call gets the one last used, which is still in the processor's caches. Not a sync.Pool: that forgets
// everything at a collection.
type stack[C any] struct {
	fresh func() C
	mu    sync.Mutex
	free  []C // at most 2·GOMAXPROCS; what is beyond that is freed when the collector finds it
}

func (s *stack[C]) get() C {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	return s.fresh()
}

func (s *stack[C]) put(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < 2*runtime.GOMAXPROCS(0) {
		s.free = append(s.free, c)
	}
}
