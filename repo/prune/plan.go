package prune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

const (
	// treeBytes bounds the plain trees that are loaded at a time; a larger one is loaded alone.
	treeBytes = 32 << 20
	// smallIndex is how many entries make an index file worth keeping as it is, when there are manySmall others.
	smallIndex = indexEntries / 4
	manySmall  = 8
)

// Plan is what is to be done. It is made under the lock under which it is executed.
type Plan struct {
	Stats Stats

	r          *repo.Repository
	o          Options
	table      blobtable.Table
	kept       blobtable.Bits // one copy of each needed blob
	actions    []action       // by pack
	unlisted   []blob.ID      // packs that no index file lists
	indexFiles []indexFile
	snapshots  map[blob.ID]bool // those whose trees were walked
}

// indexFile is one that was read.
type indexFile struct {
	id      blob.ID
	entries int
	packs   []uint32 // their numbers in the table
	rewrite bool
}

// MakePlan reads the repository, which needs no index of its own, and decides what to do. It changes nothing. When
// something is missing or damaged that matters, the error is of class ErrDamaged.
func MakePlan(ctx context.Context, r *repo.Repository, o Options, rep Reporter) (*Plan, error) {
	p := &Plan{r: r, o: o, snapshots: map[blob.ID]bool{}}
	progress := &report{to: rep}
	roots, err := p.readSnapshots(ctx, progress)
	if err != nil {
		return nil, err
	}
	if err := p.readIndex(ctx, progress); err != nil {
		return nil, err
	}
	if err := p.listPacks(ctx); err != nil {
		return nil, err
	}
	if err := p.markUsed(ctx, roots, progress); err != nil {
		return nil, err
	}
	packs := p.choose()
	by := rules{Options: o.effective(), version: r.Config().Version, compresses: r.Compresses(), packBytes: int64(r.PackBytes())}
	d := decide(packs, by)
	if err := p.damage(d); err != nil {
		return nil, err
	}
	p.actions = d.actions
	p.Stats.count(packs, d.actions)
	for i, act := range d.actions {
		if act == repack {
			p.Stats.Why.add(&packs[i], &by)
		}
	}
	p.chooseIndexFiles()
	return p, nil
}

// effective returns the options without those that exclude each other.
func (o Options) effective() Options {
	if o.NoFreeSpace {
		o.MaxRepackBytes = 0
	}
	return o
}

// Nothing reports whether there is nothing to do.
func (p *Plan) Nothing() bool { return len(p.unlisted) == 0 && p.Stats.RewriteIndexFiles == 0 }

// readSnapshots returns the root trees.
func (p *Plan) readSnapshots(ctx context.Context, rep *report) ([]blob.ID, error) {
	rep.begin(Snapshots, 0)
	sns, err := p.r.SnapshotsBut(ctx, p.o.Ignore) // they may be damaged, and removed for that
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		if errors.Is(err, repo.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, fmt.Errorf("what is in use is not known: %w", err)
	}
	var roots []blob.ID
	for _, sn := range sns {
		p.snapshots[sn.ID] = true
		if sn.Tree == nil {
			return nil, repo.Advised(fmt.Errorf("%w: snapshot %s has no tree; remove it", ErrDamaged, sn.ID.Short()))
		}
		roots = append(roots, *sn.Tree)
	}
	rep.advance(int64(len(sns)))
	return roots, nil
}

// readIndex fills the table.
func (p *Plan) readIndex(ctx context.Context, rep *report) error {
	infos, err := p.r.IndexFiles(ctx)
	if err != nil {
		return err
	}
	rep.begin(Index, int64(len(infos)))
	p.indexFiles = make([]indexFile, len(infos))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, info := range infos {
		group.Go(func() error {
			id, err := blob.ParseID(info.Name)
			if err != nil {
				return err
			}
			f := &p.indexFiles[i]
			f.id = id
			add := p.table.Adder(func(pack uint32) { f.packs = append(f.packs, pack) })
			err = p.r.LoadIndexFile(groupCtx, id, func(e blob.Entry) error {
				f.entries++
				return add(e)
			})
			rep.advance(1)
			if errors.Is(err, repo.ErrCorrupt) {
				err = repo.Advised(fmt.Errorf("%w: %w; `vitrine repair index` makes a new index from the packs", ErrDamaged, err))
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	p.table.Sort()
	p.Stats.IndexFiles = len(infos)
	return nil
}

// listPacks notes the sizes of the packs, and those that no index file lists.
func (p *Plan) listPacks(ctx context.Context) error {
	infos, err := p.r.ListFiles(ctx, backend.Pack)
	if err != nil {
		return err
	}
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		if !p.table.SetSize(id, info.SizeBytes) {
			p.unlisted = append(p.unlisted, id)
			p.Stats.Unlisted += info.SizeBytes
		}
	}
	p.table.DropNames()
	p.Stats.UnlistedPacks = len(p.unlisted)
	return nil
}

// markUsed walks the trees and marks what they need, all copies of it.
func (p *Plan) markUsed(ctx context.Context, roots []blob.ID, rep *report) error {
	rep.begin(Trees, 0)
	p.table.TrackUse()
	budget := semaphore.NewWeighted(treeBytes)
	var lost atomic.Int64
	var oneLost atomic.Value // the handle of a data blob that is in no index
	load := func(ctx context.Context, id blob.ID) (struct{}, []blob.ID, error) {
		h := blob.Handle{Type: blob.Tree, ID: id}
		copies, first := p.table.Lookup(h)
		if len(copies) == 0 {
			return struct{}{}, nil, fmt.Errorf("%v: %w", h, repo.ErrBlobMissing)
		}
		p.table.MarkUsed(first, len(copies))
		location := p.table.Location(&copies[0])
		weight := min(treeBytes, int64(location.Size()))
		if err := budget.Acquire(ctx, weight); err != nil {
			return struct{}{}, nil, err
		}
		defer budget.Release(weight)
		nodes, err := p.loadTree(ctx, h, copies)
		if err != nil {
			return struct{}{}, nil, err
		}
		var subtrees []blob.ID
		for i := range nodes {
			n := &nodes[i]
			// Whatever the type of the node: nothing that is named goes.
			if n.Subtree != nil {
				subtrees = append(subtrees, *n.Subtree)
			}
			for _, id := range n.Content {
				copies, first := p.table.Lookup(blob.Handle{Type: blob.Data, ID: id})
				if len(copies) == 0 {
					lost.Add(1)
					oneLost.CompareAndSwap(nil, id)
				}
				p.table.MarkUsed(first, len(copies))
			}
		}
		return struct{}{}, subtrees, nil
	}
	err := walk.Each(ctx, roots, walk.Options{Parallel: 4 * runtime.GOMAXPROCS(0)}, load, func(t walk.Tree[struct{}]) error {
		rep.advance(1)
		if t.Err != nil && (repo.IsLost(t.Err) || errors.Is(t.Err, repo.ErrBlobMissing)) {
			return repo.Advised(fmt.Errorf("%w: what a directory needs is not known, so nothing is removed: %w; see `vitrine check`", ErrDamaged, t.Err))
		}
		return t.Err
	})
	if err == nil && lost.Load() > 0 {
		err = repo.Advised(fmt.Errorf("%w: %d data blobs that snapshots need are in no index, the first: %v; nothing is removed: see `vitrine check`, or let `vitrine repair index` look for them",
			ErrDamaged, lost.Load(), oneLost.Load().(blob.ID).Short()))
	}
	return err
}

// loadTree reads a tree from the first copy that is whole.
func (p *Plan) loadTree(ctx context.Context, h blob.Handle, copies []blobtable.Entry) ([]snapshot.Node, error) {
	var lost error
	for i := range copies {
		plain, err := p.r.ReadBlobAt(ctx, h, p.table.Location(&copies[i]), nil)
		if err != nil && !repo.IsLost(err) {
			return nil, repo.NotLost(err, lost)
		}
		if err != nil {
			lost = errors.Join(lost, err)
			continue
		}
		nodes, err := snapshot.DecodeTree(plain)
		if err != nil {
			return nil, fmt.Errorf("%v: %w: %w", h, repo.ErrCorrupt, err)
		}
		return nodes, nil
	}
	return nil, lost
}

// choose picks the copy to keep of each needed blob and counts what is in the packs. Copies are picked from
// the pack that comes first in an order of all packs, so that others can go as a whole:
//
//	those whose file is there, and as long as the index says
//	those that hold one type of blobs
//	those with the smallest part that is needed by nobody: what an interrupted prune has written comes before
//	what it was written from
//	those with more that is nowhere else
//	large ones
func (p *Plan) choose() []pack {
	all := p.table.Packs()
	packs := make([]pack, len(all))
	shared := make([]int64, len(all)) // bytes of needed blobs that have several copies
	for i := range all {
		a := &all[i]
		packs[i] = pack{trees: a.Types[blob.Tree], mixed: a.Mixed(), plain: a.Plain, sizeBytes: a.SizeBytes, wantBytes: a.WantBytes()}
	}
	p.kept = p.table.NewBits()
	p.table.Blobs(func(_ blob.Handle, copies []blobtable.Entry, first int) {
		used := p.table.IsUsed(first)
		for i := range copies {
			e := &copies[i]
			switch {
			case !used:
				packs[e.Pack].unused.add(int64(e.LengthBytes))
			case len(copies) == 1:
				p.kept.Set(first)
				packs[e.Pack].used.add(int64(e.LengthBytes))
			default:
				shared[e.Pack] += int64(e.LengthBytes)
			}
		}
	})
	rank := rankPacks(packs, shared)
	p.table.Blobs(func(_ blob.Handle, copies []blobtable.Entry, first int) {
		if len(copies) == 1 || !p.table.IsUsed(first) {
			return
		}
		best := 0
		for i := range copies {
			if rank[copies[i].Pack] < rank[copies[best].Pack] {
				best = i
			}
		}
		p.kept.Set(first + best)
		for i := range copies {
			e := &copies[i]
			if i == best {
				packs[e.Pack].used.add(int64(e.LengthBytes))
				continue
			}
			packs[e.Pack].unused.add(int64(e.LengthBytes))
			packs[e.Pack].duplicates.add(int64(e.LengthBytes))
		}
	})
	return packs
}

// rankPacks returns the place of each pack in the order of choose.
func rankPacks(packs []pack, shared []int64) []int {
	order := make([]int, len(packs))
	for i := range order {
		order[i] = i
	}
	unfit := func(p *pack) int {
		switch {
		case p.sizeBytes < 0:
			return 3
		case p.sizeBytes != p.wantBytes:
			return 2
		case p.mixed:
			return 1
		}
		return 0
	}
	useless := func(i int) float64 {
		p := &packs[i]
		return float64(p.unused.Bytes) / float64(max(1, p.used.Bytes+p.unused.Bytes+shared[i]))
	}
	slices.SortFunc(order, func(a, b int) int {
		p, q := &packs[a], &packs[b]
		return cmp.Or(
			cmp.Compare(unfit(p), unfit(q)),
			cmp.Compare(useless(a), useless(b)),
			cmp.Compare(q.used.Bytes, p.used.Bytes),
			cmp.Compare(q.sizeBytes, p.sizeBytes),
			cmp.Compare(a, b))
	})
	rank := make([]int, len(packs))
	for place, i := range order {
		rank[i] = place
	}
	return rank
}

// damage makes an error of packs that are not as they should be.
func (p *Plan) damage(d decision) error {
	name := func(numbers []int) string {
		var names []string
		for _, no := range numbers[:min(3, len(numbers))] {
			names = append(names, p.table.Packs()[no].ID.Short())
		}
		if len(numbers) > len(names) {
			names = append(names, "…")
		}
		return strings.Join(names, ", ")
	}
	switch {
	case len(d.missing) > 0:
		return repo.Advised(fmt.Errorf("%w: %d packs that snapshots need are missing (%s); nothing is removed: put them back from a copy of the repository, or see `vitrine check`",
			ErrDamaged, len(d.missing), name(d.missing)))
	case len(d.odd) > 0:
		return repo.Advised(fmt.Errorf("%w: %d packs that snapshots need have another size than the index says (%s); nothing is removed: `vitrine repair index` compares them with the index",
			ErrDamaged, len(d.odd), name(d.odd)))
	}
	return nil
}

// chooseIndexFiles marks the index files to write again: those that list packs which go, and small ones when there are
// many or others are written anyway.
func (p *Plan) chooseIndexFiles() {
	small, gone := 0, false
	for i := range p.indexFiles {
		f := &p.indexFiles[i]
		f.rewrite = f.entries == 0 || slices.ContainsFunc(f.packs, func(no uint32) bool { return p.actions[no] != keep })
		gone = gone || f.rewrite
		if !f.rewrite && f.entries < smallIndex {
			small++
		}
	}
	for i := range p.indexFiles {
		f := &p.indexFiles[i]
		if f.entries < smallIndex && !p.o.NoFreeSpace && (small >= manySmall || gone && small > 0) {
			f.rewrite = true
		}
		if f.rewrite {
			p.Stats.RewriteIndexFiles++
		}
	}
}
