package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
)

// listPacks finds out which packs of the index are there, and which are in no index. It reports whether one is missing.
func (c *run) listPacks(ctx context.Context) (missing bool, err error) {
	total := int64(len(c.table.Packs()))
	c.report.begin(Packs, total)
	err = c.be.List(ctx, backend.Pack, func(info backend.Info) error {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		if c.table.SetSize(id, info.SizeBytes) {
			c.report.advance(Packs, 1, total)
			return nil
		}
		c.orphans = append(c.orphans, id)
		c.orphanBytes += info.SizeBytes
		return nil
	})
	c.table.DropNames()
	return slices.ContainsFunc(c.table.Packs(), func(p blobtable.Pack) bool { return p.SizeBytes < 0 }), err
}

// checkPacks compares the packs of the index with those that are there.
func (c *run) checkPacks() {
	packs := c.table.Packs()
	c.res.Packs, c.res.OrphanPacks = len(packs), len(c.orphans)

	beyond := c.countBeyond(packs)
	var mixed []blob.ID
	for _, p := range inOrder(packs) {
		c.checkPack(p, beyond[p])
		c.res.PackBytes += max(0, p.SizeBytes)
		if p.Mixed() && c.r.Config().Version >= 2 {
			mixed = append(mixed, p.ID)
		}
	}
	if len(mixed) > 0 {
		c.report.hint("data and trees together in %s, as old clients wrote them; prune can rewrite them", some(mixed))
	}
}

// tellOrphans tells of the packs that no index file lists, once it is known whether something is missing that may be in
// them.
func (c *run) tellOrphans() {
	switch {
	case len(c.orphans) == 0:
	case c.unlisted.Load():
		c.report.needIndex()
		c.report.hint("in no index: %s, %s; what is in no index above may be in them: rebuild the index from the packs, and prune nothing before",
			some(c.orphans), size(c.orphanBytes))
	default:
		c.report.hint("in no index: %s, %s, left by a backup that was interrupted or just written by one that runs; prune removes what is left over",
			some(c.orphans), size(c.orphanBytes))
	}
}

// inOrder returns the packs by ID, so that reports do not depend on chance.
func inOrder(packs []blobtable.Pack) []*blobtable.Pack {
	list := make([]*blobtable.Pack, len(packs))
	for i := range packs {
		list[i] = &packs[i]
	}
	slices.SortFunc(list, func(a, b *blobtable.Pack) int { return a.ID.Compare(b.ID) })
	return list
}

// countBeyond counts the blobs of which packs that are too short have not all.
func (c *run) countBeyond(packs []blobtable.Pack) map[*blobtable.Pack]int {
	beyond := map[*blobtable.Pack]int{}
	if !slices.ContainsFunc(packs, func(p blobtable.Pack) bool { return p.SizeBytes >= 0 && p.SizeBytes < p.WantBytes() }) {
		return beyond
	}
	c.table.All(func(_ blob.Handle, e *blobtable.Entry, _ int) {
		if p := &packs[e.Pack]; !p.Holds(e) {
			beyond[p]++
		}
	})
	return beyond
}

// checkPack looks at the length of a pack; beyond blobs are not in it as a whole.
func (c *run) checkPack(p *blobtable.Pack, beyond int) {
	switch {
	case p.SizeBytes < 0:
		c.report.index("pack/%s is missing, and with it %s; put the file back from a copy of the repository, or rebuild the index and back up the same files again",
			p.ID.Short(), count(p.Blobs, "blob"))
	case p.SizeBytes < p.WantBytes():
		what := ""
		if beyond > 0 {
			what = fmt.Sprintf(": %d of its %s are not in it", beyond, count(p.Blobs, "blob"))
		}
		c.report.broken(p.ID, "pack/%s has %d bytes, the index makes it %d%s; put the file back from a copy of the repository",
			p.ID.Short(), p.SizeBytes, p.WantBytes(), what)
	case p.SizeBytes > p.WantBytes():
		c.report.index("pack/%s has %d bytes, the index makes it %d; put the file back from a copy of the repository, or rebuild the index from the packs",
			p.ID.Short(), p.SizeBytes, p.WantBytes())
	}
	if p.Compressed && c.r.Config().Version < 2 {
		c.report.error("pack/%s holds compressed blobs in a repository of version %d, where clients need not read them; upgrade the repository",
			p.ID.Short(), c.r.Config().Version)
	}
}

// some names the first of many packs.
func some(ids []blob.ID) string {
	slices.SortFunc(ids, blob.ID.Compare)
	const named = 5
	var short []string
	for _, id := range ids[:min(named, len(ids))] {
		short = append(short, id.Short())
	}
	list := strings.Join(short, ", ")
	if len(ids) > named {
		list += ", …"
	}
	return fmt.Sprintf("%s (%s)", count(len(ids), "pack"), list)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// isThere reports whether the copy is in a pack that is there, and was not found damaged.
func (c *run) isThere(e *blobtable.Entry) bool {
	return c.table.Packs()[e.Pack].Holds(e) && !c.damaged[*e]
}

// anyThere returns nil when one of the copies of a blob is there, and else what became of it.
func (c *run) anyThere(h blob.Handle, copies []blobtable.Entry) error {
	if len(copies) == 0 {
		c.unlisted.Store(true)
		return fmt.Errorf("%v is in no index", h)
	}
	for i := range copies {
		if c.isThere(&copies[i]) {
			return nil
		}
	}
	e := &copies[0]
	p := &c.table.Packs()[e.Pack]
	switch {
	case p.SizeBytes < 0:
		return fmt.Errorf("%v is in pack/%s, which is missing", h, p.ID.Short())
	case !p.Holds(e):
		return fmt.Errorf("%v is in pack/%s, which is too short", h, p.ID.Short())
	}
	return fmt.Errorf("%v is damaged in pack/%s", h, p.ID.Short())
}
