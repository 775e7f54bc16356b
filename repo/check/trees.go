package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/semaphore"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// treeBytes bounds the plain trees that are loaded at a time; a larger one is loaded alone. Decoded
// nodes take about twice that.
const treeBytes = 32 << 20

// finding is something wrong with a node of a tree, or with the tree when name is empty.
type finding struct {
	name   string
	err    error
	hint   bool
	lost   bool     // the file lacks content
	in     blob.ID  // the pack that had the first of it; zero when that is in no index
	pack   *blob.ID // whose bytes are wrong
	unread bool     // a copy could not be asked for, and may be sound
}

// treeReport is what the walk keeps of a tree.
type treeReport struct {
	files    int
	findings []finding
	lost     bool // no copy could be loaded
	unread   bool // of one at least nothing is known
}

// checkTrees walks the trees of all roots.
func (c *run) checkTrees(ctx context.Context) error {
	c.report.begin(Trees, 0)
	p := c.newPaths()
	defer c.report.otherFiles()
	return c.walk(ctx, p, c.inspect, func(tree walk.Tree[treeReport]) error {
		c.res.Trees++
		c.res.Files += int64(tree.Loaded.files)
		if tree.Loaded.lost {
			c.incomplete = true
			c.res.LostTrees = c.res.LostTrees || !tree.Loaded.unread
		}
		for _, f := range tree.Loaded.findings {
			where := p.path(ctx, tree.N, f.name)
			if err := ended(ctx); err != nil {
				return err
			}
			switch {
			case f.hint:
				c.report.hint("%s: %v", where, f.err)
			case f.unread:
				c.report.unread("%s: %w", where, f.err)
			case f.pack != nil:
				c.report.broken(*f.pack, "%s: %w", where, f.err)
			case f.lost:
				c.report.file(f.in, "%s: %w", where, f.err)
			default:
				c.report.error("%s: %w", where, f.err)
			}
			c.res.LostFiles = c.res.LostFiles || f.lost
		}
		c.report.advance(Trees, 1, 0)
		return nil
	})
}

// walk visits the trees of all roots. inspect is called in parallel for each that could be
// loaded.
func (c *run) walk(ctx context.Context, p *paths, inspect func(nodes []snapshot.Node) treeReport, visit func(walk.Tree[treeReport]) error) error {
	roots := make([]blob.ID, len(c.roots))
	for i := range c.roots {
		roots[i] = c.roots[i].tree
	}
	budget := semaphore.NewWeighted(treeBytes)
	load := func(ctx context.Context, id blob.ID) (treeReport, []blob.ID, error) {
		copies, _ := c.table.Lookup(blob.Handle{Type: blob.Tree, ID: id})
		weight := int64(1)
		if len(copies) > 0 {
			weight = min(treeBytes, int64(c.table.Location(&copies[0]).Size()))
		}
		if err := budget.Acquire(ctx, weight); err != nil {
			return treeReport{}, nil, err
		}
		defer budget.Release(weight)
		nodes, findings, ok := c.loadTree(ctx, id)
		report := inspect(nodes)
		report.findings = append(findings, report.findings...)
		report.lost = !ok
		report.unread = anyUnread(findings)
		return report, walk.Subtrees(nodes), nil
	}
	return walk.Each(ctx, roots, walk.Options{Parallel: 4 * runtime.GOMAXPROCS(0)}, load, func(tree walk.Tree[treeReport]) error {
		if tree.Err != nil {
			return tree.Err // only of a context
		}
		p.add(tree.ID, tree.Parent)
		if err := visit(tree); err != nil {
			return err
		}
		return c.silent()
	})
}

// loadTree reads a tree from the first copy that is whole; the findings tell of those
// that are not. Without any it returns false.
func (c *run) loadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, []finding, bool) {
	h := blob.Handle{Type: blob.Tree, ID: id}
	copies, first := c.table.Lookup(h)
	c.table.MarkUsed(first, len(copies))
	if err := c.anyThere(h, copies); err != nil {
		return nil, []finding{{err: fmt.Errorf("%s: %w; %s", treeLost, err, treeAdvice)}}, false
	}
	there := make([]blobtable.Entry, 0, len(copies))
	for i := range copies {
		if c.isThere(&copies[i]) {
			there = append(there, copies[i])
		}
	}
	what := "a copy of the directory is damaged"
	if len(there) == 1 {
		what = treeLost + ", its only copy is damaged"
	}
	var findings []finding
	for i := range there {
		loc := c.table.Location(&there[i])
		plain, err := c.r.ReadBlobAt(ctx, h, loc, nil)
		c.asked(err)
		if err != nil {
			f := finding{err: fmt.Errorf("%s: %w; %s", what, err, restoreAdvice)}
			switch {
			case errors.Is(err, repo.ErrCorrupt):
				f.pack = &loc.Pack
			case !repo.IsLost(err):
				f.err = fmt.Errorf("a copy of the directory could not be read: %w; %s", err, unreadAdvice)
				f.unread = true
			}
			findings = append(findings, f)
			continue
		}
		nodes, err := snapshot.DecodeTree(plain)
		if err != nil { // the bytes are what was stored: no other copy differs
			err = fmt.Errorf("%s: %v: %w; the program that wrote it was at fault: back it up again", treeLost, h, err)
			return nil, append(findings, finding{err: err}), false
		}
		return nodes, findings, true
	}
	if len(there) > 1 && !anyUnread(findings) {
		findings = append(findings, finding{err: fmt.Errorf("%s: none of %d copies of %v can be read; %s", treeLost, len(there), h, treeAdvice)})
	}
	return nil, findings, false
}

func anyUnread(findings []finding) bool {
	return slices.ContainsFunc(findings, func(f finding) bool { return f.unread })
}

// treeLost begins the messages about directories of which no copy is left, treeAdvice ends them.
const (
	treeLost   = "the directory is lost with all below it"
	treeAdvice = "restore it from a copy of the repository, or repair and back it up again"
)

// inspect looks at the nodes of a tree.
func (c *run) inspect(nodes []snapshot.Node) treeReport {
	var report treeReport
	for i := range nodes {
		n := &nodes[i]
		bad := func(hint bool, format string, args ...any) {
			report.findings = append(report.findings, finding{name: n.Name, err: fmt.Errorf(format, args...), hint: hint})
		}
		switch n.Type {
		case snapshot.File:
			report.files++
			if in, err := c.inspectFile(n, bad); err != nil {
				report.findings = append(report.findings, finding{name: n.Name, err: fmt.Errorf("%w; %s", err, fileAdvice), lost: true, in: in})
			}
		case snapshot.Dir:
			if n.Subtree == nil {
				bad(false, "the directory has no tree; back it up again")
			}
		case snapshot.Symlink:
			if n.LinkTarget == "" {
				bad(true, "symbolic link to nothing")
			}
		}
		if n.Type != snapshot.File && len(n.Content) > 0 {
			bad(true, "%v with content", n.Type)
		}
		if n.Type != snapshot.Dir && n.Subtree != nil {
			bad(true, "%v with a tree", n.Type)
		}
	}
	return report
}

// inspectFile returns what the file lacks as an error, and the pack that had the first of it.
func (c *run) inspectFile(n *snapshot.Node, bad func(hint bool, format string, args ...any)) (in blob.ID, missing error) {
	if n.Content == nil {
		bad(false, "the file has no list of blobs; back it up again")
		return in, nil
	}
	var bytes uint64
	var lost int
	var firstLost error
	known := true
	for _, id := range n.Content {
		h := blob.Handle{Type: blob.Data, ID: id}
		copies, first := c.table.Lookup(h)
		c.table.MarkUsed(first, len(copies))
		if err := c.anyThere(h, copies); err != nil {
			lost++
			if firstLost == nil {
				firstLost, in = err, c.packOf(copies)
			}
		}
		known = known && len(copies) > 0
		for i := range copies {
			size := c.table.Location(&copies[i]).Size()
			if i == 0 {
				bytes += uint64(size)
			}
			known = known && size == c.table.Location(&copies[0]).Size()
		}
	}
	if known && bytes != n.Size {
		bad(true, "the file is noted with %d bytes, its content has %d: it changed while it was backed up", n.Size, bytes)
	}
	if lost > 0 {
		return in, lostChunks(lost, len(n.Content), firstLost)
	}
	return in, nil
}

// packOf returns the pack of the first copy, zero when there is none.
func (c *run) packOf(copies []blobtable.Entry) (pack blob.ID) {
	if len(copies) > 0 {
		pack = c.table.Packs()[copies[0].Pack].ID
	}
	return pack
}

// fileAdvice ends the messages about files.
const fileAdvice = "restore what is missing from a copy of the repository, or repair and back the file up again"

func lostChunks(lost, chunks int, first error) error {
	if lost == 1 {
		return fmt.Errorf("1 of %s of the file is lost: %w", count(chunks, "chunk"), first)
	}
	return fmt.Errorf("%d of %s of the file are lost, the first: %w", lost, count(chunks, "chunk"), first)
}

// inspectLost looks only for what the data phase found damaged.
func (c *run) inspectLost(nodes []snapshot.Node) treeReport {
	var report treeReport
	for i := range nodes {
		n := &nodes[i]
		if n.Type != snapshot.File {
			continue
		}
		lost := 0
		var firstLost error
		var in blob.ID
		for _, id := range n.Content {
			h := blob.Handle{Type: blob.Data, ID: id}
			copies, _ := c.table.Lookup(h)
			if err := c.anyThere(h, copies); err != nil && c.anyDamaged(copies) {
				lost++
				if firstLost == nil {
					firstLost, in = err, c.packOf(copies)
				}
			}
		}
		if lost > 0 {
			report.findings = append(report.findings, finding{name: n.Name, err: lostChunks(lost, len(n.Content), firstLost), in: in})
		}
	}
	return report
}

func (c *run) anyDamaged(copies []blobtable.Entry) bool {
	for i := range copies {
		if c.damaged[copies[i]] {
			return true
		}
	}
	return false
}

// nameLostFiles tells which files need the blobs that the data phase found damaged.
func (c *run) nameLostFiles(ctx context.Context) error {
	if len(c.damaged) == 0 {
		return nil
	}
	p := c.newPaths()
	defer c.report.otherFiles()
	return c.walk(ctx, p, c.inspectLost, func(tree walk.Tree[treeReport]) error {
		for _, f := range tree.Loaded.findings {
			switch {
			case f.name != "":
				c.res.LostFiles = true
				c.report.file(f.in, "%s: %w; %s", p.path(ctx, tree.N, f.name), f.err, fileAdvice)
			case f.unread && tree.Loaded.lost: // it could be read before
				c.report.unread("%s: which files below are lost is not known: %w", p.path(ctx, tree.N, ""), f.err)
			}
		}
		return ended(ctx)
	})
}

// paths finds where a tree of a walk is: the first path on which it was met. It keeps 40 bytes a tree.
type paths struct {
	c       *run
	ids     []blob.ID
	parents []int32
	known   map[int]string // of trees that were asked for, with those above them
}

func (c *run) newPaths() *paths { return &paths{c: c, known: map[int]string{}} }

func (p *paths) add(id blob.ID, parent int) {
	p.ids = append(p.ids, id)
	p.parents = append(p.parents, int32(parent))
}

// path names an entry of tree n, or the tree itself when name is empty; the root is "/".
func (p *paths) path(ctx context.Context, n int, name string) string {
	dir := p.dir(ctx, n)
	if name == "" && p.parents[n] >= 0 {
		return dir
	}
	return dir + "/" + printable(name)
}

// dir returns "snapshot 1f2e3d4c: /srv/a" without a slash at its end.
func (p *paths) dir(ctx context.Context, n int) string {
	if s, ok := p.known[n]; ok {
		return s
	}
	s := ""
	if parent := int(p.parents[n]); parent < 0 {
		s = fmt.Sprintf("snapshot %s: ", p.c.roots[-1-parent].id.Short())
	} else {
		s = p.dir(ctx, parent) + "/" + p.name(ctx, parent, p.ids[n])
	}
	p.known[n] = s
	return s
}

// name finds the name of a directory in the tree above it.
func (p *paths) name(ctx context.Context, parent int, id blob.ID) string {
	var nodes []snapshot.Node
	if p.c.silent() == nil { // else each name would be waited for in vain
		nodes, _, _ = p.c.loadTree(ctx, p.ids[parent])
	}
	for i := range nodes {
		if nodes[i].Type == snapshot.Dir && nodes[i].Subtree != nil && *nodes[i].Subtree == id {
			return printable(nodes[i].Name)
		}
	}
	return "tree " + id.Short() // only when it cannot be read any more, or ctx has ended
}

// printable quotes a name that a terminal should not get raw.
func printable(name string) string {
	quoted := fmt.Sprintf("%q", name)
	if quoted == `"`+name+`"` {
		return name
	}
	return quoted
}
