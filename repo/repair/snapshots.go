package repair

import (
	"context"
	"slices"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/rewrite"
	"vitrine/repo/snapshot"
)

// repairedTag tells repaired snapshots from the damaged ones, where these stay.
const repairedTag = "repaired"

// SnapshotsReporter is told what Snapshots does.
type SnapshotsReporter interface {
	rewrite.Reporter
	// Damage is something that was found, and what is made of it; once for all snapshots that share it.
	Damage(path, what string)
}

// Snapshots replaces those of the snapshots that need something which is lost. Chunks of files that are in no index file
// are left out, and the size of each file becomes that of its chunks; directories whose trees are gone or damaged become
// empty ones; entries of no known type are left out. Of a snapshot whose root is gone nothing is left. The index is
// believed: Index comes first, and takes packs out of it that are gone.
//
// With forget the damaged snapshots are removed, also those of which nothing is left, and without it the new ones get a tag. The caller holds an exclusive lock.
func Snapshots(ctx context.Context, r *repo.Repository, list []*snapshot.Snapshot, forget, dryRun bool, rep SnapshotsReporter) (rewrite.Result, error) {
	x := &fixer{r: r, rep: rep}
	rules := &rewrite.Rules[string]{Node: x.node, Lost: x.lost, Lossy: true}
	return rewrite.Snapshots(ctx, r, list, rules, rewrite.Options{Forget: forget, RemoveEmpty: forget, Tag: repairedTag, DryRun: dryRun}, rep)
}

// fixer repairs nodes. The place of a directory is its path, "" for the root.
type fixer struct {
	r   *repo.Repository
	rep SnapshotsReporter
}

func (x *fixer) node(at string, n *snapshot.Node) (rewrite.Verdict, string, error) {
	path := at + "/" + n.Name
	switch n.Type {
	case snapshot.Dir:
		return rewrite.Keep, path, nil
	case snapshot.Irregular:
		x.rep.Damage(path, "its type is not known: left out")
		return rewrite.Drop, path, nil
	case snapshot.File:
		verdict, err := x.file(path, n)
		return verdict, path, err
	}
	return rewrite.Keep, path, nil
}

// file leaves out the chunks that are lost.
func (x *fixer) file(path string, n *snapshot.Node) (rewrite.Verdict, error) {
	size := uint64(0)
	lost := 0
	content := n.Content
	for i, id := range n.Content {
		loc, found, err := x.r.LookupBlob(blob.Handle{Type: blob.Data, ID: id})
		switch {
		case err != nil:
			return rewrite.Keep, err
		case found:
			size += uint64(loc.Size())
			if lost > 0 {
				content = append(content, id)
			}
			continue
		case lost == 0:
			content = slices.Clone(n.Content[:i])
		}
		lost++
	}
	switch {
	case lost > 0:
		x.rep.Damage(path, "some of its content is lost: left out")
	case size != n.Size:
		x.rep.Damage(path, "its size is not that of its content: corrected")
	case n.Content == nil:
		x.rep.Damage(path, "a file without a list of content: made an empty one")
		content = []blob.ID{}
	default:
		return rewrite.Keep, nil
	}
	n.Content, n.Size = content, size
	return rewrite.Changed, nil
}

func (x *fixer) lost(at string, err error) bool {
	if at == "" {
		x.rep.Damage("/", "the root cannot be read: nothing is left of the snapshot")
		return false
	}
	x.rep.Damage(at, "the directory cannot be read: made an empty one")
	return true
}
