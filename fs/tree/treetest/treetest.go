// Package treetest makes snapshots in memory for tests of what shows them: trees built node
// by node, blobs that can be lost, and counters of what was read.
package treetest

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Source implements tree.Source. The zero value is not usable; see New.
type Source struct {
	t testing.TB

	mu        sync.Mutex // guards the rest
	blobs     map[blob.Handle][]byte
	snapshots map[blob.ID]*snapshot.Snapshot
	broken    map[blob.Handle]error
	hidden    map[blob.Handle]bool
	reads     map[blob.Handle]int
	loads     map[blob.ID]int
	refreshes int
	listErr   error
	indexErr  error
	gate      chan struct{}
}

// New returns a source without snapshots.
func New(t testing.TB) *Source {
	return &Source{
		t: t, blobs: make(map[blob.Handle][]byte), snapshots: make(map[blob.ID]*snapshot.Snapshot),
		broken: make(map[blob.Handle]error), hidden: make(map[blob.Handle]bool),
		reads: make(map[blob.Handle]int), loads: make(map[blob.ID]int),
	}
}

// ListFiles lists the snapshots.
func (s *Source) ListFiles(_ context.Context, kind backend.Kind) ([]backend.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listErr != nil {
		return nil, s.listErr
	}
	var infos []backend.Info
	if kind == backend.Snapshot {
		for id := range s.snapshots {
			infos = append(infos, backend.Info{Name: id.String(), SizeBytes: 1})
		}
	}
	return infos, nil
}

// LoadSnapshot returns a snapshot that AddSnapshot added.
func (s *Source) LoadSnapshot(_ context.Context, id blob.ID) (*snapshot.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads[id]++
	if err := s.broken[blob.Handle{ID: id}]; err != nil {
		return nil, err
	}
	if sn := s.snapshots[id]; sn != nil {
		return sn, nil
	}
	return nil, fmt.Errorf("snapshot %s: %w", id.Short(), backend.ErrNotExist)
}

// Pack is the pack that holds every blob.
var Pack = blob.Hash([]byte("the pack"))

// LookupBlob finds every blob that was added and not hidden.
func (s *Source) LookupBlob(h blob.Handle) (blob.Location, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.blobs[h]
	if !ok || s.hidden[h] {
		return blob.Location{}, false, nil
	}
	return blob.Location{Pack: Pack, LengthBytes: uint32(len(p) + blob.SealOverheadBytes)}, true, nil
}

// RefreshIndex finds what was hidden.
func (s *Source) RefreshIndex(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	if s.indexErr == nil {
		clear(s.hidden)
	}
	return s.indexErr
}

// ReadBlob returns a blob, unless it was broken. It waits while the gate is closed.
func (s *Source) ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads[h]++
	if err := s.broken[h]; err != nil {
		return nil, fmt.Errorf("load %v: %w", h, err)
	}
	delete(s.hidden, h)
	p, ok := s.blobs[h]
	if !ok {
		return nil, fmt.Errorf("load %v: %w", h, repo.ErrBlobMissing)
	}
	return append(buf[:0], p...), nil
}

// Reads tells how often a blob was read.
func (s *Source) Reads(h blob.Handle) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads[h]
}

// TreeReads tells how often trees were read, all together.
func (s *Source) TreeReads() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h, k := range s.reads {
		if h.Type == blob.Tree {
			n += k
		}
	}
	return n
}

// SnapshotLoads tells how often snapshot files were read, all together.
func (s *Source) SnapshotLoads() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.loads {
		n += k
	}
	return n
}

// IndexRefreshes tells how often RefreshIndex was called.
func (s *Source) IndexRefreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes
}

// Break makes reading a blob fail; nil mends it. A snapshot is broken by a Handle with its ID
// and type Data.
func (s *Source) Break(h blob.Handle, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.broken, h)
		return
	}
	s.broken[h] = err
}

// Remove makes a blob unknown for good.
func (s *Source) Remove(h blob.Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, h)
}

// Hide makes a blob unknown until it is read, as if only a newer index file knew it.
func (s *Source) Hide(h blob.Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden[h] = true
}

// FailLists makes ListFiles fail; nil mends it.
func (s *Source) FailLists(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listErr = err
}

// FailIndex makes RefreshIndex fail; nil mends it.
func (s *Source) FailIndex(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.indexErr = err
}

// CloseGate makes every ReadBlob wait until the function that it returns is called.
func (s *Source) CloseGate() (open func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gate == gate {
			s.gate = nil
			close(gate)
		}
	}
}

// Data adds a data blob.
func (s *Source) Data(p []byte) blob.ID { return s.add(blob.Data, p) }

func (s *Source) add(t blob.Type, p []byte) blob.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := blob.Hash(p)
	s.blobs[blob.Handle{Type: t, ID: id}] = p
	return id
}

// Tree adds a directory; the nodes are sorted first.
func (s *Source) Tree(nodes ...snapshot.Node) blob.ID {
	s.t.Helper()
	slices.SortFunc(nodes, func(a, b snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
	var e snapshot.TreeEncoder
	for i := range nodes {
		if err := e.Add(&nodes[i]); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.add(blob.Tree, e.Finish())
}

// RawTree adds a tree blob of any bytes.
func (s *Source) RawTree(p []byte) blob.ID { return s.add(blob.Tree, p) }

// Time is the modification time of every node that Node makes.
var Time = time.Date(2021, 2, 3, 4, 5, 6, 789, time.UTC)

// Node returns a node with plain metadata.
func Node(name string, typ snapshot.NodeType) snapshot.Node {
	return snapshot.Node{
		Name: name, Type: typ, Mode: 0o644, ModTime: Time, AccessTime: Time, ChangeTime: Time,
		UID: 1000, GID: 1001, Inode: 7, DeviceID: 8, Links: 1,
	}
}

// File returns a file whose content is the chunks.
func (s *Source) File(name string, chunks ...string) snapshot.Node {
	n := Node(name, snapshot.File)
	n.Content = []blob.ID{}
	for _, c := range chunks {
		n.Content = append(n.Content, s.Data([]byte(c)))
		n.Size += uint64(len(c))
	}
	return n
}

// Dir returns a directory that holds the nodes.
func (s *Source) Dir(name string, nodes ...snapshot.Node) snapshot.Node {
	s.t.Helper()
	return s.DirOf(name, s.Tree(nodes...))
}

// DirOf returns a directory with a known tree blob.
func (s *Source) DirOf(name string, tree blob.ID) snapshot.Node {
	n := Node(name, snapshot.Dir)
	n.Mode = fs.ModeDir | 0o755
	n.Subtree, n.Links = &tree, 0
	return n
}

// Symlink returns a symlink.
func Symlink(name, target string) snapshot.Node {
	n := Node(name, snapshot.Symlink)
	n.Mode = fs.ModeSymlink | 0o777
	n.LinkTarget = target
	return n
}

// AddSnapshot adds a snapshot of the tree; edit, which may be nil, changes it first. Its ID
// depends on host, time and tags.
func (s *Source) AddSnapshot(at time.Time, root blob.ID, edit func(*snapshot.Snapshot)) *snapshot.Snapshot {
	s.t.Helper()
	sn := &snapshot.Snapshot{Time: at, Tree: &root, Paths: []string{"/src"}, Hostname: "host", Username: "user"}
	if edit != nil {
		edit(sn)
	}
	p, err := sn.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	sn.ID = blob.Hash(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[sn.ID] = sn
	return sn
}

// RemoveSnapshot removes a snapshot.
func (s *Source) RemoveSnapshot(id blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snapshots, id)
}
