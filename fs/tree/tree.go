// Package tree is the virtual directory tree over the snapshots of a repository, without a
// FUSE type in it: lists of snapshots at the top (see Options.PathTemplates), below each
// snapshot the directories that it holds.
//
// # Node numbers
//
// Every node has a NodeID, computed rather than remembered:
//
//	bits 63        62…24              23…0
//	   0     number of a tree blob   entry + 1     anything but a directory, in a snapshot
//	   1     63-bit hash of parent and name        a directory, or anything in the lists
//
// Tree blobs are numbered in the order in which they are met. A file is named by its
// tree blob and its place in it, so that the same directory in two snapshots gives the same
// files: one inode, one page cache. A directory, on the other hand, must have one parent, so it
// is an instance: the hash of its parent's number and its name. What an instance stands for
// is kept in a table for as long as somebody holds a reference (Lookup and List take one,
// Forget gives it back): 50 to 80 bytes per directory held, and about 60 bytes for each
// different tree blob ever met. Files cost nothing.
//
// A tree blob with more than 2^24-1 entries cannot be numbered and is an error. The format
// cannot hold one either: a blob's length has 32 bits, and a real node takes more than 256
// bytes of JSON.
//
// # Inode numbers
//
// Attr.Ino is for people and tools, not for the kernel. A file's number is 62 bits of its tree
// blob's ID plus its place, so it grows in directory order (tools that sort by inode number, as cp
// does, read in the order of the packs), is the same after a remount, and the same for a directory that
// did not change between two snapshots. Names of one file with several links share a number made
// from device, inode and everything else the node says that links must have in common: two nodes
// that differ in content, size, owner, mode, mtime or attributes are never taken for one file,
// whatever snapshot or host they are from. Times of access and change and the count of links are
// left out, since they may change while a backup walks over the names.
// A directory's number is 62 bits of its parent's NodeID plus its place there, with the bit above
// set: in the order of inode numbers the files of a directory come first, by name, and then its
// directories, by name, which is what makes a walk foreseeable. Those of the lists, and the roots of
// snapshots, have 62 bits of their own NodeID, and the same bit.
package tree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/cache/blobcache"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Source is what a tree is read from; *repo.Repository is one. All methods may be called in
// parallel.
type Source interface {
	// ListFiles lists the files of a kind; the tree asks for snapshots only, once per Refresh.
	ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error)
	// LoadSnapshot reads one snapshot. The result is shared and not changed.
	LoadSnapshot(ctx context.Context, id blob.ID) (*snapshot.Snapshot, error)
	// LookupBlob tells where a blob is stored and how long it is; false when unknown.
	LookupBlob(h blob.Handle) (blob.Location, bool, error)
	// RefreshIndex makes lookups know the index files that are there now, reading those that
	// are new. Lookups go on meanwhile.
	RefreshIndex(ctx context.Context) error
	// ReadBlob returns the verified plain bytes, appended to buf[:0]. For a blob that is
	// unknown or whose pack is gone it looks for newer index files first.
	ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error)
}

// Options say how the tree looks. The zero value is usable.
type Options struct {
	// Filter selects the snapshots that are shown.
	Filter snapshot.Filter
	// PathTemplates lay out the snapshots; nil means DefaultPathTemplates. Verbs: %i short
	// ID, %I ID, %u user, %h host, %t tag (one path for each), %T time, %% percent sign.
	PathTemplates []string
	// TimeTemplate formats %T, as time.Format does; "" means time.RFC3339.
	TimeTemplate string
	// OwnerRoot shows everything as owned by user and group 0.
	OwnerRoot bool
	// UID and GID own the lists of snapshots.
	UID, GID uint32
	// CacheBytes bounds parsed trees and file layouts in RAM; 0 means DefaultCacheBytes.
	CacheBytes int64
	// Log receives what is wrong with a snapshot; nil discards it.
	Log *slog.Logger
}

// DefaultCacheBytes is Options.CacheBytes where nothing is said.
const DefaultCacheBytes = 64 << 20

// DefaultPathTemplates is the layout where nothing is said.
var DefaultPathTemplates = []string{"ids/%i", "snapshots/%T", "hosts/%h/%T", "tags/%t/%T"}

// Error classes. They are our own, so that an error from below, of a pack that is not there
// or ends early, is never taken for an answer.
var (
	// ErrNoEntry: the directory has no entry of that name.
	ErrNoEntry = errors.New("no such entry")
	// ErrNoOffset: there is no data, or no hole, from there on.
	ErrNoOffset = errors.New("no such offset")
	ErrNotDir   = errors.New("not a directory")
	// ErrStale: the node was in a list of snapshots that has changed, or its references
	// were given back.
	ErrStale = errors.New("node is gone")
	// ErrInvalid: the operation makes no sense for the node's type.
	ErrInvalid = errors.New("invalid operation for this type of node")
)

// NodeID names a node for as long as the Tree lives; see the package comment.
type NodeID uint64

// Root is the directory that holds everything.
const Root NodeID = 1

const (
	instanceBit NodeID = 1 << 63
	entryBits          = 24
	maxEntries         = 1<<entryBits - 1
	inoBits            = 1<<62 - 1
	dirInoBit          = 1 << 62    // set in the inode numbers of directories
	noTree      uint32 = 0          // numbers of trees start at 1
	reserved           = ^NodeID(0) // FUSE libraries use it for themselves
)

// Tree is safe for parallel use.
type Tree struct {
	src       Source
	templates []template
	timeForm  string
	filter    snapshot.Filter
	ownerRoot bool
	uid, gid  uint32
	log       *slog.Logger

	trees   treeTable
	dirs    dirTable
	parsed  *blobcache.Cache[blob.ID, *snapshot.Compact]
	layouts *blobcache.Cache[NodeID, *Layout]
	huge    hugeTrees // those that parsed does not keep, larger than hugeBytes

	hugeBytes int64

	refreshMu sync.Mutex                     // serializes Refresh; guards known
	known     map[blob.ID]*snapshot.Snapshot // nil: not to be shown
	bad       sync.Map                       // IDs of snapshots that the log was told of
	view      atomic.Pointer[view]

	rootsMu sync.RWMutex // guards roots
	roots   []*snapshot.Snapshot
	rootOf  map[blob.ID]uint32 // snapshot ID to its place in roots
}

// New returns a tree whose lists are empty until the first Refresh. Close it after use.
func New(src Source, o Options) (*Tree, error) {
	if o.PathTemplates == nil {
		o.PathTemplates = DefaultPathTemplates
	}
	if o.TimeTemplate == "" {
		o.TimeTemplate = time.RFC3339
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OwnerRoot {
		o.UID, o.GID = 0, 0
	}
	t := &Tree{
		src: src, timeForm: o.TimeTemplate, filter: o.Filter, log: o.Log,
		ownerRoot: o.OwnerRoot, uid: o.UID, gid: o.GID,
		known: make(map[blob.ID]*snapshot.Snapshot), rootOf: make(map[blob.ID]uint32),
		parsed:  blobcache.New[blob.ID](o.CacheBytes*3/4, func(c *snapshot.Compact) int64 { return int64(c.MemoryBytes()) }),
		layouts: blobcache.New[NodeID](o.CacheBytes/4, func(l *Layout) int64 { return l.memoryBytes() }),
	}
	// Half of what the cache takes, so that one directory never empties it.
	t.hugeBytes = o.CacheBytes * 3 / 8
	var err error
	if t.templates, err = parseTemplates(o.PathTemplates, o.TimeTemplate); err != nil {
		return nil, err
	}
	t.trees.init()
	t.dirs.init()
	t.view.Store(buildView(nil, t.templates, t.timeForm, nil, time.Now()))
	return t, nil
}

// Close ends loads that are under way and frees the caches.
func (t *Tree) Close() error { return errors.Join(t.parsed.Close(), t.layouts.Close()) }

// treeBuffers recycles the JSON of tree blobs, which nobody keeps.
var treeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBytes keeps the JSON of a rare huge directory from staying in the pool.
const maxPooledBytes = 4 << 20

// load returns the parsed tree blob.
func (t *Tree) load(ctx context.Context, id blob.ID) (*snapshot.Compact, error) {
	if c := t.huge.get(id); c != nil {
		return c, nil
	}
	return t.parsed.Get(ctx, id, func(ctx context.Context) (*snapshot.Compact, error) {
		if c := t.huge.get(id); c != nil { // another load has just ended
			return c, nil
		}
		buf := treeBuffers.Get().(*[]byte)
		defer treeBuffers.Put(buf)
		h := blob.Handle{Type: blob.Tree, ID: id}
		plain, c, err := t.read(ctx, h, *buf)
		if err != nil {
			return nil, err
		}
		if c != nil {
			return t.checked(h, c)
		}
		if *buf = plain; cap(plain) > maxPooledBytes {
			*buf = nil
		}
		return t.parse(h, plain)
	})
}

// parse makes a tree of its JSON.
func (t *Tree) parse(h blob.Handle, plain []byte) (*snapshot.Compact, error) {
	c, err := snapshot.ParseCompact(plain)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", h, err)
	}
	return t.checked(h, c)
}

// checked returns a tree that can be shown.
func (t *Tree) checked(h blob.Handle, c *snapshot.Compact) (*snapshot.Compact, error) {
	if c.Len() > maxEntries {
		return nil, fmt.Errorf("%v: directory of %d entries: at most %d can be shown", h, c.Len(), maxEntries)
	}
	if int64(c.MemoryBytes()) > t.hugeBytes {
		t.huge.keep(h.ID, c)
	}
	return c, nil
}

// loadNumber returns the parsed tree blob with that number.
func (t *Tree) loadNumber(ctx context.Context, number uint32) (blob.ID, *snapshot.Compact, error) {
	id, ok := t.trees.id(number)
	if !ok {
		return blob.ID{}, nil, fmt.Errorf("tree number %d: %w", number, ErrStale)
	}
	c, err := t.load(ctx, id)
	return id, c, err
}

// root returns the place of a snapshot in t.roots.
func (t *Tree) root(sn *snapshot.Snapshot) uint32 {
	t.rootsMu.Lock()
	defer t.rootsMu.Unlock()
	i, ok := t.rootOf[sn.ID]
	if !ok {
		i = uint32(len(t.roots))
		t.roots = append(t.roots, sn)
		t.rootOf[sn.ID] = i
	}
	return i
}

func (t *Tree) rootAt(i uint32) *snapshot.Snapshot {
	t.rootsMu.RLock()
	defer t.rootsMu.RUnlock()
	return t.roots[i]
}

// notExist is the error for a name that is not there.
func notExist(name string) error { return fmt.Errorf("%q: %w", name, ErrNoEntry) }
