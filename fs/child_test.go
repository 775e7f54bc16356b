package fs

import (
	"bytes"
	"context"
	"sync"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type treeLoader interface {
	Snapshots(ctx context.Context) ([]*snapshot.Snapshot, error)
	FindNode(ctx context.Context, root blob.ID, p string) (*snapshot.Node, error)
}

func child(string, []string) int { return 1 }
