package repair

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// What a recovered snapshot is called, as restic calls it.
const (
	recoveredPath = "/recover"
	recoveredTag  = "recovered"
)

// batchBytes bounds the trees that one goroutine has in memory, plain; a larger one is read alone.
const batchBytes = 4 << 20

// RecoverOptions describe the snapshot that Recover makes.
type RecoverOptions struct {
	Host           string
	Time           time.Time
	ProgramVersion string
}

// RecoverResult is what Recover has found.
type RecoverResult struct {
	Trees    int                // in the index
	Lost     int                // that cannot be read, or that a tree refers to and no index lists
	Roots    int                // that nothing refers to
	Snapshot *snapshot.Snapshot // in which they are; nil without roots
}

// treeOnTheWay is a tree of the index.
type treeOnTheWay struct {
	id  blob.ID
	loc blob.Location
}

// Recover makes a snapshot of all trees that neither a snapshot nor another tree refers to, each a directory named by the
// tree's ID: what was in snapshots that are gone. First the index is made complete, as by Index. Trees and snapshots that
// cannot be read are told to rep, and left out. It takes about 120 bytes of memory for each tree beside those of Index.
// The repository has an index; the caller holds an exclusive lock.
func Recover(ctx context.Context, r *repo.Repository, o RecoverOptions, rep Reporter) (RecoverResult, error) {
	var res RecoverResult
	if _, err := Index(ctx, r, false, rep); err != nil {
		return res, err
	}
	if err := r.RefreshIndex(ctx); err != nil {
		return res, fmt.Errorf("refresh index: %w", err)
	}
	progress := &report{to: rep}
	roots := make(map[blob.ID]bool) // of the trees: nothing is known to refer to it
	trees, err := listTrees(ctx, r, roots)
	if err != nil {
		return res, err
	}
	res.Trees = len(trees)
	progress.begin(ReadTrees, len(trees))
	if res.Lost, err = dropReferred(ctx, r, trees, roots, progress); err != nil {
		return res, err
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return res, err
		}
		progress.problem("%w; it counts as gone", err)
	}
	for _, sn := range all {
		delete(roots, *sn.Tree)
	}
	if res.Roots = len(roots); res.Roots == 0 {
		return res, nil
	}
	sn := &snapshot.Snapshot{
		Time: o.Time, Paths: []string{recoveredPath}, Hostname: o.Host, Tags: []string{recoveredTag}, ProgramVersion: o.ProgramVersion,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
	}
	if u, err := user.Current(); err == nil {
		sn.Username = u.Username
	}
	if sn.Tree, err = saveRoots(ctx, r, roots, o.Time); err != nil {
		return res, err
	}
	if _, err := r.SaveSnapshot(ctx, sn); err != nil {
		return res, err
	}
	res.Snapshot = sn
	return res, nil
}

// listTrees returns the trees of the index in the order in which they are stored, and enters them into roots.
func listTrees(ctx context.Context, r *repo.Repository, roots map[blob.ID]bool) ([]treeOnTheWay, error) {
	infos, err := r.IndexFiles(ctx)
	if err != nil {
		return nil, err
	}
	var trees []treeOnTheWay
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return nil, err
		}
		err = r.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			if e.Type == blob.Tree && !roots[e.ID] {
				roots[e.ID] = true
				trees = append(trees, treeOnTheWay{e.ID, e.Location})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(trees, func(a, b treeOnTheWay) int {
		return cmp.Or(a.loc.Pack.Compare(b.loc.Pack), cmp.Compare(a.loc.OffsetBytes, b.loc.OffsetBytes))
	})
	return trees, nil
}

// dropReferred reads all trees and takes those out of roots that another one refers to, or that cannot be read. These it
// counts, and those that are referred to and in no index.
func dropReferred(ctx context.Context, r *repo.Repository, trees []treeOnTheWay, roots map[blob.ID]bool, progress *report) (lost int, err error) {
	var mu sync.Mutex // guards roots, missing and lost
	missing := make(map[blob.ID]bool)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for len(trees) > 0 {
		n, size := 0, 0
		for ; n < len(trees) && (n == 0 || size+int(trees[n].loc.Size()) <= batchBytes); n++ {
			size += int(trees[n].loc.Size())
		}
		batch := trees[:n]
		trees = trees[n:]
		group.Go(func() error {
			return eachTree(ctx, r, batch, func(id blob.ID, nodes []snapshot.Node, failed error) {
				mu.Lock()
				defer mu.Unlock()
				if failed != nil {
					lost++
					delete(roots, id)
					progress.problem("%w", failed)
				}
				for _, below := range walk.Subtrees(nodes) {
					delete(roots, below)
					h := blob.Handle{Type: blob.Tree, ID: below}
					if _, known, err := r.LookupBlob(h); err == nil && !known && !missing[below] {
						missing[below] = true
						lost++
						progress.problem("%v is in no index: a directory in tree/%s is lost", h, id.Short())
					}
				}
				progress.advance()
			})
		})
	}
	return lost, group.Wait()
}

// eachTree reads trees that are stored near each other. What damage says goes to use; another error ends it.
func eachTree(ctx context.Context, r *repo.Repository, batch []treeOnTheWay, use func(id blob.ID, nodes []snapshot.Node, failed error)) error {
	hs := make([]blob.Handle, len(batch))
	for i := range batch {
		hs[i] = blob.Handle{Type: blob.Tree, ID: batch[i].id}
	}
	var err error
	var buf []byte
	r.ReadBlobs(ctx, hs, func(i int, open repo.OpenBlob) bool {
		plain, failed := open(buf)
		if failed != nil && !repo.IsLost(failed) {
			err = failed
			return false
		}
		var nodes []snapshot.Node
		if failed == nil {
			buf = plain
			if nodes, failed = snapshot.DecodeTree(plain); failed != nil {
				failed = fmt.Errorf("%v: %w", hs[i], failed)
			}
		}
		use(batch[i].id, nodes, failed)
		return true
	})
	return err
}

// saveRoots stores the tree with a directory for each of the roots.
func saveRoots(ctx context.Context, r *repo.Repository, roots map[blob.ID]bool, at time.Time) (*blob.ID, error) {
	ids := make([]blob.ID, 0, len(roots))
	for id := range roots {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, blob.ID.Compare)
	var e snapshot.TreeEncoder
	for i, id := range ids {
		name := id.Short()
		if i > 0 && ids[i-1].Short() == name || i+1 < len(ids) && ids[i+1].Short() == name {
			name = id.String()
		}
		n := snapshot.Node{Name: name, Type: snapshot.Dir, Mode: fs.ModeDir | 0o755, ModTime: at, AccessTime: at, ChangeTime: at, Subtree: &id}
		if err := e.Add(&n); err != nil {
			return nil, err
		}
	}
	var root blob.ID
	err := r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
		saved, err := w.SaveBlob(ctx, blob.Tree, e.Finish())
		root = saved.ID
		return err
	})
	return &root, err
}
