package repo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// sealedBuffers recycles the buffers that hold a sealed blob between backend and decoder.
var sealedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBytes keeps a rare huge tree from staying in the pool.
const maxPooledBytes = 16 << 20

func getSealed() *[]byte { return sealedBuffers.Get().(*[]byte) }

func putSealed(p *[]byte) {
	if cap(*p) <= maxPooledBytes {
		sealedBuffers.Put(p)
	}
}

// ReadBlob returns the plain bytes of a blob, appended to buf[:0]; the result may share
// buf's memory. They are verified against the blob's ID. When the index does not know the
// blob, or its pack is gone, the index is refreshed and asked again: another client may have
// pruned. A copy that is damaged or gone makes it try the others that the index knows, and one that was gone and that the
// index still names is tried once more.
// ErrBlobMissing and ErrCorrupt are the classes of what is lost.
func (r *Repository) ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error) {
	loc, known, err := r.LookupBlob(h)
	if err != nil {
		return nil, err
	}
	return r.readBlob(ctx, h, loc, known, buf)
}

// moves bounds how often the index is refreshed for one blob: as often as a blob may be moved by prunes while it is read.
const moves = 5

// readBlob is ReadBlob for a blob that the index knows to be at loc, if it knows it.
func (r *Repository) readBlob(ctx context.Context, h blob.Handle, loc blob.Location, known bool, buf []byte) ([]byte, error) {
	var lost error // why no place so far did
	var tried []blob.Location
	stale := !known
	try := func(loc blob.Location) ([]byte, error) {
		plain, err := r.ReadBlobAt(ctx, h, loc, buf)
		if err != nil {
			lost = errors.Join(lost, err)
			tried = append(tried, loc)
			stale = stale || errors.Is(err, backend.ErrNotExist)
		}
		return plain, err
	}
	if known {
		if plain, err := try(loc); err == nil || !IsLost(err) {
			return plain, err
		}
	}
	for round := range moves {
		if stale {
			if err := r.index.Refresh(ctx); err != nil {
				return nil, fmt.Errorf("load %v: %w", h, NotLost(err, lost))
			}
		}
		stale = false
		locs, err := r.locations(h)
		if err != nil {
			return nil, err
		}
		if len(locs) == 0 {
			return nil, fmt.Errorf("load %v: %w", h, errors.Join(ErrBlobMissing, lost))
		}
		if round == 0 && errors.Is(lost, backend.ErrNotExist) && slices.Contains(locs, loc) {
			// Nobody has pruned, so that the pack may be there after all: some stores say for a moment that nothing is.
			tried, lost = nil, nil
		}
		for _, other := range locs {
			if slices.Contains(tried, other) {
				continue
			}
			before := lost
			plain, err := try(other)
			if err == nil {
				if errors.Is(lost, ErrCorrupt) {
					r.log.Warn("a blob was read from another copy; `vitrine check --read-data` tells what is damaged", "error", lost)
				}
				return plain, nil
			}
			if !IsLost(err) {
				return nil, NotLost(err, before)
			}
		}
		if !stale {
			break
		}
	}
	return nil, lost
}

// IsLost tells whether a copy of a blob is damaged or gone, for which another one may stand in.
func IsLost(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, backend.ErrNotExist)
}

// NotLost is err, in whose words stands what was met before, if anything: copies that are lost. It is not of their
// class: a copy that could not be asked for may be sound, and what is sound must not be taken for lost.
func NotLost(err, before error) error {
	if before == nil {
		return err
	}
	return fmt.Errorf("%w (other copies: %v)", err, before)
}

// locations returns all places of a blob that the index can name.
func (r *Repository) locations(h blob.Handle) ([]blob.Location, error) {
	locs, err := r.index.Locations(h)
	if err != nil {
		return nil, fmt.Errorf("look up %v: %w", h, err)
	}
	return locs, nil
}

// ReadBlobAt is ReadBlob for one known copy of the blob.
func (r *Repository) ReadBlobAt(ctx context.Context, h blob.Handle, loc blob.Location, buf []byte) ([]byte, error) {
	pooled := getSealed()
	defer putSealed(pooled)
	sealed, err := r.readSealed(hinted(ctx, h.Type), loc, *pooled)
	if err != nil {
		return nil, failLoad(h, loc, err)
	}
	*pooled = sealed
	plain, err := r.openBlob(h, loc, sealed, buf)
	if err != nil {
		return nil, failLoad(h, loc, err)
	}
	return plain, nil
}

func failLoad(h blob.Handle, loc blob.Location, err error) error {
	if loc.Pack.IsZero() { // nobody knows where it is
		return fmt.Errorf("load %v: %w", h, err)
	}
	return fmt.Errorf("load %v from pack %s at %d+%d: %w", h, loc.Pack.Short(), loc.OffsetBytes, loc.LengthBytes, err)
}

// readSealed reads a blob as it is stored, in the space of buf if that is enough.
func (r *Repository) readSealed(ctx context.Context, loc blob.Location, buf []byte) ([]byte, error) {
	if loc.LengthBytes < blob.SealOverheadBytes {
		return nil, fmt.Errorf("%w: too short to be sealed", ErrCorrupt)
	}
	f := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
	if loc.LengthBytes > maxPooledBytes { // hardly ever: see that it is true before memory is taken
		if err := r.checkEnd(ctx, f, loc); err != nil {
			return nil, err
		}
	}
	sealed := slices.Grow(buf[:0], int(loc.LengthBytes))[:loc.LengthBytes]
	if err := r.be.ReadAt(ctx, f, sealed, int64(loc.OffsetBytes)); err != nil {
		if errors.Is(err, backend.ErrShort) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return nil, err
	}
	return sealed, nil
}

// hinted tells the wrappers of the store about packs of trees.
func hinted(ctx context.Context, t blob.Type) context.Context {
	if t == blob.Tree {
		return backend.WithHint(ctx, backend.HintTree)
	}
	return ctx
}

// checkEnd returns an error when the blob is said to end behind its pack.
func (r *Repository) checkEnd(ctx context.Context, f backend.File, loc blob.Location) error {
	info, err := r.be.Stat(ctx, f)
	if err == nil && info.SizeBytes < int64(loc.OffsetBytes)+int64(loc.LengthBytes) {
		err = fmt.Errorf("%w: the pack has only %d bytes", ErrCorrupt, info.SizeBytes)
	}
	return err
}

// LoadTree returns the nodes of a directory, sorted by name.
func (r *Repository) LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error) {
	h := blob.Handle{Type: blob.Tree, ID: id}
	plain, err := r.ReadBlob(ctx, h, nil)
	if err != nil {
		return nil, err
	}
	nodes, err := snapshot.DecodeTree(plain)
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %w", h, ErrCorrupt, err)
	}
	return nodes, nil
}

// FindNode follows a slash-separated path from a root tree. The path "/" (or "") gives a
// directory node without a name. A component that is not there is an error of class
// ErrNoMatch.
func (r *Repository) FindNode(ctx context.Context, root blob.ID, p string) (*snapshot.Node, error) {
	node := &snapshot.Node{Type: snapshot.Dir, Subtree: &root}
	clean := path.Clean("/" + p)
	if clean == "/" {
		return node, nil
	}
	at := "/"
	for _, name := range strings.Split(clean[1:], "/") {
		if node.Type != snapshot.Dir || node.Subtree == nil {
			return nil, fmt.Errorf("path %q: %q is not a directory: %w", p, at, ErrNoMatch)
		}
		at = path.Join(at, name)
		nodes, err := r.LoadTree(ctx, *node.Subtree)
		if err != nil {
			return nil, err
		}
		i, ok := slices.BinarySearchFunc(nodes, name, func(n snapshot.Node, name string) int {
			return strings.Compare(n.Name, name)
		})
		if !ok {
			return nil, fmt.Errorf("path %q: %q is not in the snapshot: %w", p, at, ErrNoMatch)
		}
		node = &nodes[i]
	}
	return node, nil
}
