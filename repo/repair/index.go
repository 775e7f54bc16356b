// Package repair makes a repository sound again as far as what is left of it allows. It works under an exclusive lock and
// keeps to the order in which files may go: new packs, new index, old index, old packs.
package repair

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// indexEntries is how many entries an index file gets.
const indexEntries = 50_000

// Phase is a part of the work, for the display of progress.
type Phase uint8

// The phases.
const (
	ReadIndex   Phase = iota // unit: files
	ReadHeaders              // packs
	WriteIndex               // packs
	RemoveIndex              // files
	Salvage                  // packs
	RemovePacks              // packs
	ReadTrees                // trees
)

// Reporter is told what happens. Its methods are called from one goroutine at a time.
type Reporter interface {
	// Progress tells how much of a phase is done.
	Progress(phase Phase, done, total int64)
	// Problem is something that was found and could not be kept.
	Problem(err error)
}

// report counts for a Reporter.
type report struct {
	mu          sync.Mutex // guards the fields below, and is held while to is called
	to          Reporter
	phase       Phase
	done, total int64
}

func (r *report) begin(phase Phase, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.done, r.total = phase, 0, int64(total)
	r.to.Progress(phase, 0, r.total)
}

func (r *report) advance() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	r.to.Progress(r.phase, r.done, r.total)
}

func (r *report) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to.Problem(fmt.Errorf(format, args...))
}

// IndexResult is what Index has done.
type IndexResult struct {
	BadIndexFiles int // that could not be read
	ReadPacks     int // whose headers were read
	GonePacks     int // that an index file listed and that are not there
	BadPacks      int // whose headers cannot be read; only what the index has of them is listed
	Changed       bool
}

// indexRun is one rebuilding of the index.
type indexRun struct {
	r        *repo.Repository
	progress *report
	res      IndexResult
	sizes    map[blob.ID]int64        // of the packs that are there
	old      []blob.ID                // index files
	packs    map[blob.ID][]blob.Entry // what the new index lists
	doubt    map[blob.ID][]blob.Entry // what an index file says of a pack that is there and whose size does not fit
	odd      bool                     // an index file lists something that is not so, or not all of it
}

// Index makes index files that list the packs which are there. It believes what the present ones say of packs whose size
// fits, and reads the headers of all others; with readAll it believes none. A new index is written only when it would differ. It
// holds the whole index in memory, about 100 bytes for each blob. The caller holds an exclusive lock; when Index is
// interrupted it can be run again.
func Index(ctx context.Context, r *repo.Repository, readAll bool, rep Reporter) (IndexResult, error) {
	x := &indexRun{r: r, progress: &report{to: rep}, sizes: map[blob.ID]int64{},
		packs: map[blob.ID][]blob.Entry{}, doubt: map[blob.ID][]blob.Entry{}}
	err := x.run(ctx, readAll)
	return x.res, err
}

func (x *indexRun) run(ctx context.Context, readAll bool) error {
	infos, err := x.r.ListFiles(ctx, backend.Pack)
	if err != nil {
		return err
	}
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		x.sizes[id] = info.SizeBytes
	}
	if err := x.readIndex(ctx, readAll); err != nil {
		return err
	}
	if err := x.readHeaders(ctx); err != nil {
		return err
	}
	if !x.odd {
		return nil
	}
	x.res.Changed = true
	if err := writeIndex(ctx, x.r, x.progress, x.packs); err != nil {
		return err
	}
	return removeFiles(ctx, x.r, x.progress, RemoveIndex, backend.Index, x.old)
}

// readIndex takes from the index files what fits the packs that are there.
func (x *indexRun) readIndex(ctx context.Context, readAll bool) error {
	infos, err := x.r.IndexFiles(ctx)
	if err != nil {
		return err
	}
	x.odd = readAll
	x.progress.begin(ReadIndex, len(infos))
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		x.old = append(x.old, id)
		if readAll {
			x.progress.advance()
			continue
		}
		var entries []blob.Entry
		err = x.r.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			entries = append(entries, e)
			return nil
		})
		switch {
		case errors.Is(err, repo.ErrCorrupt):
			x.odd = true
			x.res.BadIndexFiles++
			x.progress.problem("%w; it is replaced", err)
			entries = nil
		case err != nil:
			return err
		}
		for _, e := range entries {
			x.packs[e.Pack] = append(x.packs[e.Pack], e)
		}
		x.progress.advance()
	}
	for id, entries := range x.packs {
		entries = tidy(entries)
		x.packs[id] = entries
		size, there := x.sizes[id]
		if !there {
			x.res.GonePacks++
			x.progress.problem("pack %s is missing, and with it %d blobs", id.Short(), len(entries))
		}
		switch {
		case !there:
			x.odd = true
			delete(x.packs, id)
		case !repo.Fits(entries, size):
			x.doubt[id] = entries
			delete(x.packs, id)
		}
	}
	return nil
}

// tidy sorts the entries of a pack by offset; what several index files list alike stays once.
func tidy(entries []blob.Entry) []blob.Entry {
	slices.SortFunc(entries, func(a, b blob.Entry) int {
		if a.OffsetBytes != b.OffsetBytes {
			return int(int64(a.OffsetBytes) - int64(b.OffsetBytes))
		}
		return a.ID.Compare(b.ID)
	})
	return slices.Compact(entries)
}

// readHeaders asks the packs that are there and that x.packs lacks.
func (x *indexRun) readHeaders(ctx context.Context) error {
	var unknown []blob.ID
	for id := range x.sizes {
		if _, ok := x.packs[id]; !ok {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.SortFunc(unknown, blob.ID.Compare)
	x.progress.begin(ReadHeaders, len(unknown))
	var mu sync.Mutex // guards x.packs and x.res
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, id := range unknown {
		group.Go(func() error {
			entries, err := x.r.ListPack(groupCtx, id, x.sizes[id])
			x.progress.advance()
			mu.Lock()
			defer mu.Unlock()
			x.res.ReadPacks++
			switch {
			case errors.Is(err, repo.ErrCorrupt):
				x.res.BadPacks++
				x.keepInside(id, err)
				return nil
			case err != nil:
				return err
			}
			x.odd = true
			x.packs[id] = entries
			return nil
		})
	}
	return group.Wait()
}

// keepInside keeps what an index file says of a pack without a header that can be read, as far as its file goes.
func (x *indexRun) keepInside(id blob.ID, cause error) {
	var inside []blob.Entry
	for _, e := range x.doubt[id] {
		if int64(e.OffsetBytes)+int64(e.LengthBytes) <= x.sizes[id] {
			inside = append(inside, e)
		}
	}
	if len(inside) < len(x.doubt[id]) {
		x.odd = true
	}
	if len(inside) == 0 {
		x.progress.problem("%w; no index lists this pack any more", cause)
		return
	}
	x.packs[id] = inside
	x.progress.problem("%w; the index has %d blobs of this pack: `vitrine repair packs %v` saves those that can be read", cause, len(inside), id)
}

// writeIndex writes index files that list the packs.
func writeIndex(ctx context.Context, r *repo.Repository, progress *report, packs map[blob.ID][]blob.Entry) error {
	ids := make([]blob.ID, 0, len(packs))
	for id := range packs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, blob.ID.Compare)
	progress.begin(WriteIndex, len(ids))
	var due []blob.Entry
	for i, id := range ids {
		due = append(due, packs[id]...)
		if len(due) >= indexEntries || i == len(ids)-1 {
			if _, err := r.SaveIndex(ctx, due); err != nil {
				return err
			}
			due = due[:0]
		}
		progress.advance()
	}
	return nil
}

// removeFiles removes files; one that is gone already is no error.
func removeFiles(ctx context.Context, r *repo.Repository, progress *report, phase Phase, kind backend.Kind, ids []blob.ID) error {
	if len(ids) == 0 {
		return nil
	}
	progress.begin(phase, len(ids))
	for _, id := range ids {
		if err := r.RemoveFile(ctx, kind, id); err != nil && !errors.Is(err, backend.ErrNotExist) {
			return err
		}
		progress.advance()
	}
	return nil
}
