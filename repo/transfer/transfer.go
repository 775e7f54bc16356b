// Package transfer copies snapshots from one repository to another.
//
// Snapshots are taken in batches. Of each batch it is first found out which blobs the destination lacks: the trees of the
// source are walked, each once, all of them, for a tree that is there does not mean that what it names is there,
// too. These blobs are then read pack by pack, in the order in which they lie there, and written. When
// they are durable, and not before, the snapshots are written. What a copy that was interrupted has stored is
// in the index of the destination, so that the next one does not read it again.
//
// A copy keeps the ID of what it was made from as its original, which is how the next run knows that it is there.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

const (
	// DefaultBatchBlobs is for blobs that take 40 MB of memory while they are in a batch.
	DefaultBatchBlobs = 250_000
	// batchBytes are the sealed bytes that end a batch: what is copied should soon be worth something.
	batchBytes = 8 << 30
)

// Options say what is copied.
type Options struct {
	// Snapshots are those of the source to copy, in this order.
	Snapshots []*snapshot.Snapshot
	// Recompress compresses again what is compressed, for a destination with a better level. Else it stays as it is.
	Recompress bool
	// BatchBlobs ends a batch after the snapshot that brings it to so many blobs to copy; 0 means DefaultBatchBlobs.
	BatchBlobs int
}

// Reporter is told what happens, on the goroutine of Run but for Copying.
type Reporter interface {
	// Skipped tells that the destination has a copy of the snapshot.
	Skipped(sn, there *snapshot.Snapshot)
	// Begin tells that the trees of the snapshot are looked at next.
	Begin(sn *snapshot.Snapshot)
	// Trees tells how many trees were looked at so far.
	Trees(done int64)
	// Copying tells how many sealed bytes of the batch are read, on any goroutine but on one at a time.
	Copying(done, total int64)
	// Saved tells that a copy is durable.
	Saved(sn *snapshot.Snapshot, id blob.ID)
	// Failed tells that a snapshot cannot be copied since something that it needs is damaged or missing.
	Failed(sn *snapshot.Snapshot, err error)
}

// Stats counts what was done.
type Stats struct {
	Saved, Skipped, Failed int   // snapshots
	Blobs                  int   // that were written
	ReadBytes              int64 // sealed, of these blobs in the source
	WrittenBytes           int64 // sealed, in the destination
}

// Run copies the snapshots. The caller holds a shared lock on the destination, and should hold one on the source. A
// snapshot of which something is lost in the source is reported, and does not keep others from being copied. After
// an error the snapshots reported as saved are complete.
func Run(ctx context.Context, src, dst *repo.Repository, o Options, rep Reporter) (Stats, error) {
	t := &transfer{
		src: src, dst: dst, o: o, rep: rep,
		trees: make(map[blob.ID]struct{}), wanted: make(map[blob.Handle]struct{}), lost: make(map[blob.Handle]error),
	}
	if t.o.BatchBlobs <= 0 {
		t.o.BatchBlobs = DefaultBatchBlobs
	}
	err := t.run(ctx)
	return t.stats, err
}

// transfer is one run.
type transfer struct {
	src, dst *repo.Repository
	o        Options
	rep      Reporter
	stats    Stats
	walked   int64 // trees

	mu    sync.Mutex           // guards trees during a walk
	trees map[blob.ID]struct{} // of which all that is below was looked at, or is being looked at

	// The batch.
	snapshots []*snapshot.Snapshot
	wanted    map[blob.Handle]struct{}
	entries   []blob.Entry // of wanted, in the order in which they were met
	bytes     int64        // sealed, of entries

	lost map[blob.Handle]error // what no copy could be read of, in all batches
}

func (t *transfer) run(ctx context.Context) error {
	copies, err := t.copiesThere(ctx)
	if err != nil {
		return err
	}
	// Both were read before the locks were there, and that of the source before its snapshots.
	if err := errors.Join(t.src.RefreshIndex(ctx), t.dst.RefreshIndex(ctx)); err != nil {
		return err
	}
	for _, sn := range t.o.Snapshots {
		if there := copies.find(sn); there != nil {
			t.stats.Skipped++
			t.rep.Skipped(sn, there)
			continue
		}
		t.rep.Begin(sn)
		if err := t.plan(ctx, sn); err != nil {
			return fmt.Errorf("copy snapshot %s: %w", sn.ID.Short(), err)
		}
		if len(t.entries) >= t.o.BatchBlobs || t.bytes >= batchBytes {
			if err := t.flush(ctx); err != nil {
				return err
			}
		}
	}
	return t.flush(ctx)
}

// plan adds a snapshot to the batch, and the blobs that the destination lacks.
func (t *transfer) plan(ctx context.Context, sn *snapshot.Snapshot) error {
	var met []blob.ID // trees that nobody has looked at before
	before := len(t.entries)
	load := func(ctx context.Context, id blob.ID) ([]snapshot.Node, []blob.ID, error) {
		nodes, err := t.src.LoadTree(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		below := slices.DeleteFunc(walk.Subtrees(nodes), func(id blob.ID) bool {
			_, known := t.trees[id]
			return known
		})
		return nodes, below, nil
	}
	visit := func(v walk.Tree[[]snapshot.Node]) error {
		if v.Err != nil {
			return v.Err
		}
		t.mu.Lock()
		_, known := t.trees[v.ID]
		t.trees[v.ID] = struct{}{}
		t.mu.Unlock()
		if !known {
			met = append(met, v.ID)
		}
		t.walked++
		t.rep.Trees(t.walked)
		for i := range v.Loaded {
			for _, id := range v.Loaded[i].Content {
				if err := t.want(blob.Handle{Type: blob.Data, ID: id}); err != nil {
					return err
				}
			}
		}
		return t.want(blob.Handle{Type: blob.Tree, ID: v.ID})
	}
	var roots []blob.ID
	if _, known := t.trees[*sn.Tree]; !known {
		roots = append(roots, *sn.Tree)
	}
	err := walk.Each(ctx, roots, walk.Options{}, load, visit)
	if err == nil {
		t.snapshots = append(t.snapshots, sn)
		return nil
	}
	if ctx.Err() != nil || !isLost(err) {
		return err
	}
	// Nobody may rely on what was not looked at to the end.
	for _, id := range met {
		delete(t.trees, id)
	}
	for _, e := range t.entries[before:] {
		delete(t.wanted, e.Handle)
		t.bytes -= int64(e.LengthBytes)
	}
	t.entries = t.entries[:before]
	t.fail(sn, err)
	return nil
}

// isLost reports whether something is damaged or missing, as opposed to a store that does not answer.
func isLost(err error) bool { return repo.IsLost(err) || errors.Is(err, repo.ErrBlobMissing) }

func (t *transfer) fail(sn *snapshot.Snapshot, err error) {
	t.stats.Failed++
	t.rep.Failed(sn, err)
}

// want adds a blob to the batch unless the destination has it.
func (t *transfer) want(h blob.Handle) error {
	if _, known := t.wanted[h]; known {
		return nil
	}
	if _, there, err := t.dst.LookupBlob(h); err != nil || there {
		return err
	}
	loc, ok, err := t.src.LookupBlob(h)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%v: %w", h, repo.ErrBlobMissing)
	}
	t.wanted[h] = struct{}{}
	t.entries = append(t.entries, blob.Entry{Handle: h, Location: loc})
	t.bytes += int64(loc.LengthBytes)
	return nil
}

// flush copies the blobs of the batch, then saves its snapshots.
func (t *transfer) flush(ctx context.Context) error {
	if len(t.entries) > 0 {
		if err := t.copyBlobs(ctx); err != nil {
			return fmt.Errorf("copy %d blobs: %w", len(t.entries), err)
		}
		if err := t.dst.RefreshIndex(ctx); err != nil { // the next batch does not want what is here now
			return err
		}
	}
	for _, sn := range t.snapshots {
		if err := t.complete(ctx, sn); err != nil {
			if ctx.Err() != nil || !isLost(err) {
				return fmt.Errorf("copy snapshot %s: %w", sn.ID.Short(), err)
			}
			t.fail(sn, err)
			continue
		}
		if err := t.save(ctx, sn); err != nil {
			return fmt.Errorf("copy snapshot %s: %w", sn.ID.Short(), err)
		}
	}
	t.snapshots, t.entries, t.bytes = nil, nil, 0
	clear(t.wanted)
	return nil
}

func (t *transfer) copyBlobs(ctx context.Context) error {
	var done int64
	t.rep.Copying(0, t.bytes)
	o := repo.RepackOptions{
		Recompress: t.o.Recompress,
		Done: func(blobs int, sealedBytes int64) {
			t.stats.Blobs += blobs
			t.stats.ReadBytes += sealedBytes
			done += sealedBytes
			t.rep.Copying(done, t.bytes)
		},
		Lost: func(e blob.Entry, err error) error {
			t.lost[e.Handle] = err
			t.stats.Blobs--
			return nil
		},
	}
	written, err := t.dst.CopyFrom(ctx, t.src, byPack(t.entries), o)
	t.stats.WrittenBytes += written
	return err
}

// byPack gives out the entries of one pack after the other, sorted by offset; the packs come in the order in which they
// are met first.
func byPack(entries []blob.Entry) iter.Seq[[]blob.Entry] {
	order := make(map[blob.ID]int)
	for i := range entries {
		if _, known := order[entries[i].Pack]; !known {
			order[entries[i].Pack] = len(order)
		}
	}
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b blob.Entry) int {
		if a.Pack != b.Pack {
			return order[a.Pack] - order[b.Pack]
		}
		return cmp.Compare(a.OffsetBytes, b.OffsetBytes)
	})
	return func(yield func([]blob.Entry) bool) {
		for from, i := 0, 1; i <= len(sorted); i++ {
			if i == len(sorted) || sorted[i].Pack != sorted[from].Pack {
				if !yield(sorted[from:i:i]) {
					return
				}
				from = i
			}
		}
	}
}

// complete returns an error when something that the snapshot needs was lost on the way.
func (t *transfer) complete(ctx context.Context, sn *snapshot.Snapshot) error {
	if len(t.lost) == 0 {
		return nil
	}
	return walk.Trees(ctx, t.src.LoadTree, []blob.ID{*sn.Tree}, walk.Options{}, func(v walk.Tree[[]snapshot.Node]) error {
		if v.Err != nil {
			return v.Err
		}
		if err := t.lost[blob.Handle{Type: blob.Tree, ID: v.ID}]; err != nil {
			return err
		}
		for i := range v.Loaded {
			for _, id := range v.Loaded[i].Content {
				if err := t.lost[blob.Handle{Type: blob.Data, ID: id}]; err != nil {
					return fmt.Errorf("read %s: %w", v.Loaded[i].Name, err)
				}
			}
		}
		return nil
	})
}

// save writes the copy of a snapshot, whose blobs are durable.
func (t *transfer) save(ctx context.Context, sn *snapshot.Snapshot) error {
	c := *sn
	c.Parent = nil // it has another ID there, if it is there
	if c.Original == nil {
		c.Original = &sn.ID
	}
	id, err := t.dst.SaveSnapshot(ctx, &c)
	if err != nil {
		return err
	}
	t.stats.Saved++
	t.rep.Saved(sn, id)
	return nil
}
