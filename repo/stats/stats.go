// Package stats counts files, blobs and bytes of snapshots in the ways of restic's modes.
//
// Each tree is read once, however many snapshots share it. What counts a file for each place in which it is shown is summed up
// by tree, and hard links, which restore once, are looked at one by one.
package stats

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"path"
	"slices"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// Mode says what is counted.
type Mode uint8

// The modes.
const (
	// RestoreSize counts what a restore of each snapshot would write: entries of any type, and the bytes of files, those
	// of hard links once.
	RestoreSize Mode = iota
	// FilesByContents counts files with different contents. All entries without content are one of them.
	FilesByContents
	// BlobsPerFile counts, for files with different contents, their paths and the different blobs at each path.
	BlobsPerFile
	// RawData counts the blobs, and their bytes as stored.
	RawData
)

// Modes are the words for the modes, by their numbers.
var Modes = []string{RestoreSize: "restore-size", FilesByContents: "files-by-contents", BlobsPerFile: "blobs-per-file", RawData: "raw-data"}

// ParseMode reads the word for a mode.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(Modes, s); i >= 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("mode %q: choose restore-size, files-by-contents, blobs-per-file, raw-data or debug", s)
}

// String returns the word for the mode.
func (m Mode) String() string { return Modes[m] }

// Store is what is read from; *repo.Repository has it.
type Store interface {
	LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error)
	LookupBlob(h blob.Handle) (blob.Location, bool, error)
}

// Result is what was counted.
type Result struct {
	Snapshots int
	Files     uint64
	Blobs     uint64
	Bytes     uint64 // in RawData as stored, else plain

	// In RawData, with what sealing adds to each blob:
	PlainBytes           uint64 // of all blobs, were none of them compressed
	CompressedBytes      uint64 // as stored, of those that are compressed
	CompressedPlainBytes uint64 // of those, were they not
}

// Ratio returns how many times smaller compressed blobs are than before; 0 when there are none.
func (r *Result) Ratio() float64 {
	if r.CompressedBytes == 0 {
		return 0
	}
	return float64(r.CompressedPlainBytes) / float64(r.CompressedBytes)
}

// Progress returns which part of the plain bytes is compressed, in percent; 0 when there are none.
func (r *Result) Progress() float64 {
	if r.PlainBytes == 0 {
		return 0
	}
	return 100 * float64(r.CompressedPlainBytes) / float64(r.PlainBytes)
}

// SpaceSaving returns by how much compression makes the whole smaller, in percent; 0 when there is nothing.
func (r *Result) SpaceSaving() float64 {
	if r.PlainBytes == 0 {
		return 0
	}
	return 100 * (1 - float64(r.Bytes)/float64(r.PlainBytes))
}

// Count counts the snapshots together. tell, which may be nil, is told how many trees were read so far. A tree or
// blob that is lost is an error that names the snapshot.
func Count(ctx context.Context, s Store, mode Mode, list []*snapshot.Snapshot, tell func(trees int64)) (Result, error) {
	c := &counter{store: s, list: list, tell: tell, res: Result{Snapshots: len(list)}}
	if c.tell == nil {
		c.tell = func(int64) {}
	}
	var err error
	switch mode {
	case RestoreSize:
		err = c.restoreSize(ctx)
	case FilesByContents:
		err = c.filesByContents(ctx)
	case BlobsPerFile:
		err = c.blobsPerFile(ctx)
	default:
		err = c.rawData(ctx)
	}
	return c.res, err
}

// counter is one count at work.
type counter struct {
	store Store
	list  []*snapshot.Snapshot
	tell  func(int64)
	res   Result
}

// trees calls visit for the nodes of each tree of the snapshots, once.
func (c *counter) trees(ctx context.Context, visit func(id blob.ID, nodes []snapshot.Node) error) error {
	roots := make([]blob.ID, len(c.list))
	for i, sn := range c.list {
		roots[i] = *sn.Tree
	}
	var parents []int
	return walk.Trees(ctx, c.store.LoadTree, roots, walk.Options{}, func(t walk.Tree[[]snapshot.Node]) error {
		parents = append(parents, t.Parent)
		err := t.Err
		if err == nil {
			err = visit(t.ID, t.Loaded)
		}
		c.tell(int64(t.N) + 1)
		if err == nil {
			return nil
		}
		n := t.N
		for n >= 0 {
			n = parents[n]
		}
		return c.failed(c.list[-1-n], err)
	})
}

func (c *counter) failed(sn *snapshot.Snapshot, err error) error {
	return fmt.Errorf("read snapshot %s: %w", sn.ID.Short(), err)
}

// sum is what a tree has, with all that is below it.
type sum struct {
	files, bytes uint64
	links        []link    // of its own nodes
	dirs         []blob.ID // its subtrees
	linked       bool      // there are links, here or below
	done         bool      // what is below is in it
}

// link is a file with several names.
type link struct {
	device, inode uint64
	bytes         uint64
}

// restoreSize counts each entry for each place at which a snapshot shows it.
func (c *counter) restoreSize(ctx context.Context) error {
	sums := make(map[blob.ID]*sum)
	err := c.trees(ctx, func(id blob.ID, nodes []snapshot.Node) error {
		s := &sum{files: uint64(len(nodes)), dirs: walk.Subtrees(nodes)}
		for i := range nodes {
			n := &nodes[i]
			if n.Links <= 1 || n.Type == snapshot.Dir || n.Inode == 0 {
				s.bytes += n.Size
			} else if n.Size > 0 {
				s.links = append(s.links, link{n.DeviceID, n.Inode, n.Size})
			}
		}
		s.linked = len(s.links) > 0
		sums[id] = s
		return nil
	})
	if err != nil {
		return err
	}
	for _, sn := range c.list {
		s := below(sums, *sn.Tree)
		c.res.Files += s.files
		c.res.Bytes += s.bytes
		if s.linked {
			c.res.Bytes += linkBytes(sums, s, make(map[[2]uint64]struct{}))
		}
	}
	return nil
}

// below returns the sum of a tree after adding those of its subtrees.
func below(sums map[blob.ID]*sum, id blob.ID) *sum {
	s := sums[id]
	if s.done {
		return s
	}
	s.done = true
	for _, dir := range s.dirs {
		d := below(sums, dir)
		s.files += d.files
		s.bytes += d.bytes
		s.linked = s.linked || d.linked
	}
	return s
}

// linkBytes returns the bytes of the hard links in and below a tree, each file once.
func linkBytes(sums map[blob.ID]*sum, s *sum, seen map[[2]uint64]struct{}) (bytes uint64) {
	if !s.linked {
		return 0
	}
	for _, l := range s.links {
		key := [2]uint64{l.device, l.inode}
		if _, ok := seen[key]; !ok {
			seen[key] = struct{}{}
			bytes += l.bytes
		}
	}
	for _, dir := range s.dirs {
		bytes += linkBytes(sums, sums[dir], seen)
	}
	return bytes
}

// contents knows files by what is in them.
type contents struct {
	seen map[blob.ID]struct{}
	hash hash.Hash
}

func newContents() *contents {
	return &contents{seen: make(map[blob.ID]struct{}), hash: sha256.New()}
}

// isNew reports whether the content is met for the first time.
func (c *contents) isNew(content []blob.ID) bool {
	var key blob.ID
	switch len(content) {
	case 0:
	case 1:
		key = content[0]
	default:
		c.hash.Reset()
		for i := range content {
			c.hash.Write(content[i][:])
		}
		c.hash.Sum(key[:0])
	}
	_, known := c.seen[key]
	c.seen[key] = struct{}{}
	return !known
}

func (c *counter) filesByContents(ctx context.Context) error {
	contents := newContents()
	return c.trees(ctx, func(_ blob.ID, nodes []snapshot.Node) error {
		for i := range nodes {
			if contents.isNew(nodes[i].Content) {
				c.res.Files++
				c.res.Bytes += nodes[i].Size
			}
		}
		return nil
	})
}

// perFile is the count of blobs by path.
type perFile struct {
	*counter
	contents *contents
	trees    map[blob.ID]struct{}            // those that were met: nothing in them is new
	paths    map[string]map[blob.ID]struct{} // the blobs that were counted at each
	load     walk.Load
	read     int64
}

// blobsPerFile goes through the snapshots in their order, and that of the paths: which path a content is counted for depends
// on it.
func (c *counter) blobsPerFile(ctx context.Context) error {
	p := &perFile{counter: c, contents: newContents(), trees: make(map[blob.ID]struct{}), paths: make(map[string]map[blob.ID]struct{}), load: c.store.LoadTree}
	for _, sn := range c.list {
		if p.met(*sn.Tree) {
			continue
		}
		nodes, err := p.load(ctx, *sn.Tree)
		if err == nil {
			err = p.dir(ctx, "/", nodes)
		}
		if err != nil {
			return c.failed(sn, err)
		}
	}
	return nil
}

// met reports whether a tree was met before.
func (p *perFile) met(id blob.ID) bool {
	_, known := p.trees[id]
	p.trees[id] = struct{}{}
	return known
}

func (p *perFile) dir(ctx context.Context, at string, nodes []snapshot.Node) error {
	p.read++
	p.tell(p.read)
	enter := func(n *snapshot.Node) bool {
		if n.Subtree == nil {
			return false
		}
		_, known := p.trees[*n.Subtree]
		return !known
	}
	return walk.Ahead(ctx, p.load, nodes, enter, func(n *snapshot.Node, tree *walk.Coming) error {
		name := path.Join(at, n.Name)
		if len(n.Content) > 0 && p.contents.isNew(n.Content) {
			if err := p.file(name, n.Content); err != nil {
				return err
			}
		}
		if tree == nil || p.met(*n.Subtree) { // it may have been met since it was to be entered
			return nil
		}
		below, err := tree.Wait()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return p.dir(ctx, name, below)
	})
}

// file counts the blobs of a content that were not counted for the path yet.
func (p *perFile) file(name string, content []blob.ID) error {
	counted := p.paths[name]
	if counted == nil {
		counted = make(map[blob.ID]struct{})
		p.paths[name] = counted
		p.res.Files++
	}
	for _, id := range content {
		if _, ok := counted[id]; ok {
			continue
		}
		counted[id] = struct{}{}
		loc, err := p.lookup(blob.Handle{Type: blob.Data, ID: id})
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		p.res.Blobs++
		p.res.Bytes += uint64(loc.Size())
	}
	return nil
}

// lookup returns the place of a blob that has to be there.
func (c *counter) lookup(h blob.Handle) (blob.Location, error) {
	loc, ok, err := c.store.LookupBlob(h)
	if err == nil && !ok {
		err = fmt.Errorf("%v: %w", h, repo.ErrBlobMissing)
	}
	return loc, err
}

func (c *counter) rawData(ctx context.Context) error {
	seen := make(map[blob.ID]struct{}) // data blobs; trees are met once anyway
	return c.trees(ctx, func(id blob.ID, nodes []snapshot.Node) error {
		if err := c.raw(blob.Handle{Type: blob.Tree, ID: id}); err != nil {
			return err
		}
		for i := range nodes {
			for _, id := range nodes[i].Content {
				if _, known := seen[id]; known {
					continue
				}
				seen[id] = struct{}{}
				if err := c.raw(blob.Handle{Type: blob.Data, ID: id}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// raw counts a blob as it is stored.
func (c *counter) raw(h blob.Handle) error {
	loc, err := c.lookup(h)
	if err != nil {
		return err
	}
	plain := uint64(loc.Size()) + blob.SealOverheadBytes
	c.res.Blobs++
	c.res.Bytes += uint64(loc.LengthBytes)
	c.res.PlainBytes += plain
	if loc.Compressed() {
		c.res.CompressedBytes += uint64(loc.LengthBytes)
		c.res.CompressedPlainBytes += plain
	}
	return nil
}
