package fs

import (
	"sync"

	"vitrine/fs/tree"
)

// asked holds the files for which a READ is being answered. The kernel has pages of theirs locked meanwhile, and who stores into
// these waits where nothing can wake him, not even SIGKILL: of a process that is killed then, the connection stays open, and the
// reader waits for ever. So nothing is pushed into such a file. What is left is a READ that comes in between, or is on its way.
type asked struct {
	mu    sync.Mutex // guards files
	files map[tree.NodeID]int
}

func (a *asked) enter(id tree.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.files == nil {
		a.files = make(map[tree.NodeID]int)
	}
	a.files[id]++
}

// leave is called as often as enter was, when the kernel has the answer or is about to get an error.
func (a *asked) leave(id tree.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.files[id]--; a.files[id] == 0 {
		delete(a.files, id)
	}
}

func (a *asked) has(id tree.NodeID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.files[id] > 0
}
