// Package check verifies a repository: that its files fit together, that every snapshot is
// whole, and, if asked, every byte of its packs. It trusts no cache, reads the repository's
// own index files, and changes nothing.
//
// It goes through these phases, each over all of the repository, so that it finds all damage
// and not the first of it:
//
//	snapshots  every file decodes; keys match their names
//	index      every index file decodes
//	packs      every pack of the index is there and as long as its blobs make it
//	trees      every tree is sound and every blob it needs is in a pack that is there
//	data       packs are read whole: name, header, index and blobs agree
//
// Snapshots are listed before the index is read, and packs after it, so a backup that runs at the
// same time does not look like damage.
//
// Memory: about 50 bytes for each blob, 150 for each tree, and bounded buffers.
package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
	"vitrine/repo/snapshot"
)

// Options say how much is checked.
type Options struct {
	// ReadData reads every pack whole.
	ReadData bool
	// Subset reads only some of the packs and implies ReadData: "2/5" is the second of five parts
	// that together are all packs, "5%" and "100M" are as much of them, chosen by chance.
	Subset string
	// Only, when set, limits the trees that are checked and the packs that are read to what the snapshots need for
	// which it is true.
	Only func(*snapshot.Snapshot) bool
	// Unused counts the blobs that no snapshot needs. It needs a check of all snapshots.
	Unused bool
	// Each tells of every blob and file that is lost. Without it one error stands for all blobs of a pack, and of the
	// files that lack something of it the first are named.
	Each bool
}

// run is one check.
type run struct {
	r      *repo.Repository
	be     backend.Backend
	report *report
	res    Result
	table  blobtable.Table

	roots      []root
	incomplete bool // a snapshot could not be read: what is used is not known

	orphans     []blob.ID // packs that no index file lists
	orphanBytes int64
	unlisted    atomic.Bool // a snapshot needs a blob that no index file lists

	damaged map[blobtable.Entry]bool // copies that --read-data found bad

	vain atomic.Int64 // reads in a row that the store was waited for in vain; see asked
}

// root is a snapshot to check.
type root struct {
	id, tree blob.ID
}

// Run checks the repository, which needs no index of its own. The error tells why the check could
// not go on; what it found is in Result and was told to rep.
func Run(ctx context.Context, r *repo.Repository, o Options, rep Reporter) (Result, error) {
	c := &run{r: r, be: r.Backend(), damaged: map[blobtable.Entry]bool{}}
	c.report = &report{to: rep, res: &c.res, each: o.Each, files: map[blob.ID]int{}}
	err := c.run(ctx, o)
	return c.res, err
}

func (c *run) run(ctx context.Context, o Options) error {
	chosen, err := parseSubset(o.Subset)
	if err != nil {
		return err
	}
	if o.Unused && o.Only != nil {
		return errors.New("unused blobs are known only when all snapshots are checked")
	}
	if err := c.checkKeys(ctx); err != nil {
		return err
	}
	if err := c.checkSnapshots(ctx, o.Only); err != nil {
		return err
	}
	if err := c.checkIndex(ctx); err != nil {
		return err
	}
	c.checkPacks()
	if o.Unused || o.Only != nil {
		c.table.TrackUse()
	}
	if err := c.checkTrees(ctx); err != nil {
		return err
	}
	c.tellOrphans()
	if o.Unused {
		c.countUnused()
	}
	if !o.ReadData && o.Subset == "" {
		return nil
	}
	if err := c.readData(ctx, c.packsToRead(o, chosen)); err != nil {
		return err
	}
	return c.nameLostFiles(ctx)
}

// each calls fn for the files of a kind in parallel, in about their order.
func (c *run) each(ctx context.Context, phase Phase, infos []backend.Info, fn func(ctx context.Context, i int, id blob.ID) error) error {
	total := int64(len(infos))
	c.report.begin(phase, total)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return errors.Join(err, group.Wait()) // a backend lists proper names only
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := fn(ctx, i, id)
			c.report.advance(phase, 1, total)
			return err
		})
	}
	return group.Wait()
}

// ended returns the error of ctx: an error of a read that is due to it is no damage.
func ended(ctx context.Context) error { return ctx.Err() }

// maxKeyBytes bounds key files, which have a few hundred bytes.
const maxKeyBytes = 1 << 20

// inVain is how many reads, in a row, the store may be waited for in vain. Each takes long, and a store that is gone
// is not asked for all the others; one that only cannot read some files is.
const inVain = 8

// errSilent ends a check of a store that does not answer.
var errSilent = backend.Classed(backend.ErrAway, errors.New("the store does not answer any more: nothing else is checked"))

// asked notes how a read has ended.
func (c *run) asked(err error) {
	if errors.Is(err, backend.ErrAway) {
		c.vain.Add(1)
	} else {
		c.vain.Store(0)
	}
}

// silent returns an error when the store has not answered for long.
func (c *run) silent() error {
	if c.vain.Load() >= inVain {
		return errSilent
	}
	return nil
}

// afterRead notes how the read of a file has ended, and returns an error when there is nothing more to read.
func (c *run) afterRead(ctx context.Context, err error) error {
	if ended(ctx) != nil {
		return ended(ctx)
	}
	c.asked(err)
	return c.silent()
}

// checkKeys looks whether the key files are what their names say.
func (c *run) checkKeys(ctx context.Context) error {
	infos, err := c.r.ListFiles(ctx, backend.Key)
	if err != nil {
		return err
	}
	hashes, errs := make([]blob.ID, len(infos)), make([]error, len(infos))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, info := range infos {
		group.Go(func() error {
			if err := ended(groupCtx); err != nil {
				return err
			}
			content, err := c.be.ReadAll(groupCtx, backend.File{Kind: backend.Key, Name: info.Name}, maxKeyBytes)
			hashes[i], errs[i] = blob.Hash(content), err
			return c.afterRead(groupCtx, err)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, info := range infos {
		id, parseErr := blob.ParseID(info.Name)
		switch err := errs[i]; {
		case errors.Is(err, backend.ErrNotExist): // removed meanwhile
		case parseErr != nil || errors.Is(err, backend.ErrTooBig):
			c.report.error("key file cannot be read: %w; keep another key and replace this one", errors.Join(err, parseErr))
		case err != nil:
			c.report.unread("key/%s could not be read: %w; %s", id.Short(), err, unreadAdvice)
		case hashes[i] != id:
			c.report.error("key/%s: content does not match its name; its password opens the repository no more: `vitrine key add` makes a new one for it, and `vitrine key remove %s` takes this one away", id.Short(), id.Short())
		}
	}
	return nil
}

// checkSnapshots loads the snapshots and notes their trees.
func (c *run) checkSnapshots(ctx context.Context, only func(*snapshot.Snapshot) bool) error {
	infos, err := c.r.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return err
	}
	sns := make([]*snapshot.Snapshot, len(infos))
	errs := make([]error, len(infos))
	err = c.each(ctx, Snapshots, infos, func(ctx context.Context, i int, id blob.ID) error {
		sns[i], errs[i] = c.loadSnapshot(ctx, id)
		return c.afterRead(ctx, errs[i])
	})
	if err != nil {
		return err
	}
	if err := c.whatIsGone(ctx, infos, errs); err != nil {
		return err
	}
	for i, sn := range sns {
		switch err := errs[i]; {
		case errors.Is(err, errGone): // removed since it was listed
		case err != nil:
			c.incomplete = true
			if !errors.Is(err, repo.ErrCorrupt) {
				c.report.unread("snapshot/%.8s could not be read: %w; %s", infos[i].Name, err, unreadAdvice)
				continue
			}
			c.report.error("%w; if no copy of the file is left, `vitrine recover` looks for what it showed, and `vitrine forget %.8s` removes it", err, infos[i].Name)
		case only != nil && !only(sn):
		case sn.Tree == nil:
			c.incomplete = true
			c.res.Snapshots++
			c.report.error("snapshot/%s has no tree; `vitrine forget %s` removes it", sn.ID.Short(), sn.ID.Short())
		default:
			c.res.Snapshots++
			c.roots = append(c.roots, root{sn.ID, *sn.Tree})
		}
	}
	return nil
}

// unreadAdvice ends the messages about what could not be read, for want of a permission or a connection. It may be sound, so
// nothing is to be removed or rebuilt.
const unreadAdvice = "nothing is known of its content; check again when it can be read"

// errGone is the error of a snapshot that was removed after it was listed.
var errGone = errors.New("removed meanwhile")

// whatIsGone sets errGone for the snapshots that were not there and that a new listing does not name any more. One that it
// names keeps its error: some stores say for a moment that nothing is there.
func (c *run) whatIsGone(ctx context.Context, infos []backend.Info, errs []error) error {
	missing := func(err error) bool { return errors.Is(err, backend.ErrNotExist) }
	if !slices.ContainsFunc(errs, missing) {
		return nil
	}
	again, err := c.r.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return err
	}
	for i, err := range errs {
		named := slices.ContainsFunc(again, func(info backend.Info) bool { return info.Name == infos[i].Name })
		if missing(err) && !named {
			errs[i] = errGone
		}
	}
	return nil
}

func (c *run) loadSnapshot(ctx context.Context, id blob.ID) (*snapshot.Snapshot, error) {
	plain, err := c.r.ReadFile(ctx, backend.Snapshot, id)
	if err != nil {
		return nil, err
	}
	sn, err := snapshot.Decode(plain)
	if err != nil {
		return nil, fmt.Errorf("snapshot/%s: %w: %w", id.Short(), repo.ErrCorrupt, err)
	}
	sn.ID = id
	return sn, nil
}

// indexTries bounds how often the index is loaded while others change it.
const indexTries = 5

// checkIndex fills the table and lists the packs. Without a lock a prune may go on meanwhile: when something is missing and an
// index file was removed since they were listed, both are done again.
func (c *run) checkIndex(ctx context.Context) error {
	for try := 1; ; try++ {
		infos, errs, err := c.loadIndex(ctx)
		if err != nil {
			return err
		}
		missing := slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, backend.ErrNotExist) })
		if !slices.ContainsFunc(errs, isUnread) {
			if missing, err = c.listPacks(ctx); err != nil {
				return err
			}
		}
		if missing && try < indexTries {
			changed, err := c.indexChanged(ctx, infos)
			if err != nil {
				return err
			}
			if changed {
				c.table, c.orphans, c.orphanBytes = blobtable.Table{}, nil, 0
				continue
			}
		}
		return c.tellIndex(infos, errs)
	}
}

// isUnread reports whether an error says that a file could not be read, and nothing of its content.
func isUnread(err error) bool { return err != nil && !errors.Is(err, repo.ErrCorrupt) }

// indexChanged reports whether one of the index files was removed since.
func (c *run) indexChanged(ctx context.Context, since []backend.Info) (bool, error) {
	now, err := c.r.IndexFiles(ctx)
	return slices.ContainsFunc(since, func(old backend.Info) bool {
		return !slices.ContainsFunc(now, func(info backend.Info) bool { return info.Name == old.Name })
	}), err
}

// tellIndex tells of the index files that could not be read.
func (c *run) tellIndex(infos []backend.Info, errs []error) error {
	unread := 0
	for i, err := range errs {
		switch {
		case isUnread(err):
			c.report.unread("index/%.8s could not be read: %w; %s", infos[i].Name, err, unreadAdvice)
			unread++
		case err != nil:
			c.report.index("%w; the blobs that only this file lists look lost below: rebuild the index from the packs", err) // it names the file
		}
	}
	if unread > 0 {
		return fmt.Errorf("%s could not be read, and what only they list would look lost: nothing more is checked", count(unread, "index file"))
	}
	c.res.IndexFiles = len(infos)
	c.res.DuplicateBlobs = c.table.Duplicates()
	c.res.DataBlobs, c.res.TreeBlobs = c.table.Distinct(blob.Data), c.table.Distinct(blob.Tree)
	return nil
}

// loadIndex reads all index files that are there.
func (c *run) loadIndex(ctx context.Context) ([]backend.Info, []error, error) {
	infos, err := c.r.IndexFiles(ctx)
	if err != nil {
		return nil, nil, err
	}
	errs := make([]error, len(infos))
	err = c.each(ctx, Index, infos, func(ctx context.Context, i int, id blob.ID) error {
		errs[i] = c.r.LoadIndexFile(ctx, id, c.table.Adder(nil))
		return c.afterRead(ctx, errs[i])
	})
	c.table.Sort()
	return infos, errs, err
}

// countUnused counts what no snapshot needs.
func (c *run) countUnused() {
	if c.incomplete {
		c.report.hint("unused blobs are not counted: not every snapshot and tree could be read")
		return
	}
	c.table.All(func(_ blob.Handle, e *blobtable.Entry, number int) {
		if !c.table.IsUsed(number) {
			c.res.UnusedBlobs++
			c.res.UnusedBytes += int64(e.LengthBytes)
		}
	})
	c.res.UnusedCounted = true
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
