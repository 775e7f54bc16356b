package fs

import (
	"context"
	"time"

	"vitrine/fs/tree"
)

// refresh looks for new snapshots until life ends. Nobody who reads waits for it: the lists are
// replaced at once when all that is new has been read.
func (s *Server) refresh(life context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-life.Done():
			return
		case <-tick.C:
		}
		began, filesBefore := time.Now(), s.indexFiles()
		changed, err := s.nodes.tree.Refresh(life)
		if life.Err() != nil {
			return
		}
		s.nodes.stats.refreshed(began, int(s.indexFiles()-filesBefore), err)
		if err != nil && !failing {
			s.log.Warn("cannot look for new snapshots; trying on", "err", err)
		}
		failing = err != nil
		for _, c := range changed {
			s.notify(c)
		}
	}
}

// notify makes the kernel forget a list and the symlinks in it that are not what they were. It
// must not be called while a request is served: the kernel waits for locks that it holds during
// lookups. Errors say no more than that the kernel did not know the node.
//
// Of directories that are gone the kernel is not told, and finds out within listTimeout: it would
// drop all that it knows below them while nobody can look anything up beside them, half a
// second for a snapshot of 300 000 files that somebody has walked.
func (s *Server) notify(c tree.Change) {
	s.fuse.InodeNotify(uint64(c.List), 0, 0) // its attributes and its listing
	for _, name := range c.Links {
		s.fuse.EntryNotify(uint64(c.List), name)
	}
}
