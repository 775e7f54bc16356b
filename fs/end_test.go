package fs

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/fs/tree/treetest"
	"vitrine/repo/blob"
)

// lastSource stops those who ask for a tree until they are told to give up, or those who look a
// blob up until the gate opens.
type lastSource struct {
	*treetest.Source
	stopTrees, stopLookups atomic.Bool
	stopped                chan struct{} // gets a token for each
	gate                   chan struct{}
}

func newLastSource(t *testing.T) *lastSource {
	s := &lastSource{Source: treetest.New(t), stopped: make(chan struct{}, 100), gate: make(chan struct{})}
	d, e := s.Dir("d", s.File("a", "1")), s.Dir("e", s.File("b", "2"))
	later := s.Dir("later", s.File("large", "34", "56"))
	s.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), s.Tree(d, e, later), nil)
	return s
}

func (s *lastSource) LookupBlob(h blob.Handle) (blob.Location, bool, error) {
	if s.stopLookups.Load() {
		s.stopped <- struct{}{}
		<-s.gate
	}
	return s.Source.LookupBlob(h)
}

func (s *lastSource) ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error) {
	if h.Type == blob.Tree && s.stopTrees.Load() {
		s.stopped <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Source.ReadBlob(ctx, h, buf)
}

// ends tells whether everything that served has stopped soon.
func ends(t *testing.T, s *Server) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the mount does not end")
	}
}

// Somebody else unmounts while a large file is found ahead of a walk that reads.
func TestEndWhileExpecting(t *testing.T) {
	src := newLastSource(t)
	dir, s := mountServer(t, src, Options{})
	open := sync.OnceFunc(func() { close(src.gate) })
	t.Cleanup(open)
	src.stopLookups.Store(true)
	sh(t, dir+"/snapshots/latest/d", `echo * >/dev/null; read x <a || true; sleep 0.2; echo ../e/* >/dev/null`)
	<-src.stopped
	if err := s.detachRetrying(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // until the server has seen that
	open()
	ends(t, s)
}

// Somebody else unmounts while a tree is being loaded ahead of a walk, from a store that is away.
func TestEndWhileLookingAhead(t *testing.T) {
	src := newLastSource(t)
	dir, s := mountServer(t, src, Options{})
	sh(t, dir, "stat snapshots/latest/d/a >/dev/null")
	src.stopTrees.Store(true)
	sh(t, dir+"/snapshots/latest/d", "ls >/dev/null")
	<-src.stopped
	if err := s.detachRetrying(); err != nil {
		t.Fatal(err)
	}
	ends(t, s)
}
