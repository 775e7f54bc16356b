package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/packfile"
)

var headerFixedBytes = int64(packfile.HeaderBytes(nil))

func headerEntryBytes(compressed bool) int64 { return int64(packfile.EntryBytes(compressed)) }

// checkPacks compares the packs of the index with those that are there.
func (c *run) checkPacks(ctx context.Context) error {
	packs := c.table.packs
	total := int64(len(packs))
	c.report.begin(Packs, total)
	var orphans []blob.ID
	var orphanBytes int64
	err := c.be.List(ctx, backend.Pack, func(info backend.Info) error {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		if no, ok := c.table.packNos[id]; ok {
			packs[no].sizeBytes = info.SizeBytes
			c.report.advance(Packs, 1, total)
			return nil
		}
		orphans = append(orphans, id)
		orphanBytes += info.SizeBytes
		return nil
	})
	if err != nil {
		return err
	}
	c.table.packNos = nil // not needed any more
	c.res.Packs, c.res.OrphanPacks = len(packs), len(orphans)

	var mixed []blob.ID
	for _, p := range inOrder(packs) {
		c.checkPack(p)
		c.res.PackBytes += max(0, p.sizeBytes)
		if p.types[blob.Data] && p.types[blob.Tree] && c.r.Config().Version >= 2 {
			mixed = append(mixed, p.id)
		}
	}
	if len(mixed) > 0 {
		c.report.hint("data and trees together in %s, as old clients wrote them; prune can rewrite them", some(mixed))
	}
	if len(orphans) > 0 {
		c.report.hint("in no index: %s, %s, left by a backup that was interrupted or just written by one that runs; prune removes what is left over",
			some(orphans), size(orphanBytes))
	}
	return nil
}

// inOrder returns the packs by ID, so that reports do not depend on chance.
func inOrder(packs []pack) []*pack {
	list := make([]*pack, len(packs))
	for i := range packs {
		list[i] = &packs[i]
	}
	slices.SortFunc(list, func(a, b *pack) int { return a.id.Compare(b.id) })
	return list
}

func (c *run) checkPack(p *pack) {
	switch {
	case p.sizeBytes < 0:
		c.report.error("pack/%s is missing, and with it %s; put the file back from a copy of the repository, or rebuild the index and back up the same files again",
			p.id.Short(), count(p.blobs, "blob"))
	case p.sizeBytes != p.wantBytes():
		c.report.error("pack/%s has %d bytes, the index makes it %d; put the file back from a copy of the repository, or rebuild the index from the packs",
			p.id.Short(), p.sizeBytes, p.wantBytes())
	}
	if p.compressed && c.r.Config().Version < 2 {
		c.report.error("pack/%s holds compressed blobs in a repository of version %d, where clients need not read them; upgrade the repository",
			p.id.Short(), c.r.Config().Version)
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
func (c *run) isThere(e *entry) bool {
	return c.table.packs[e.pack].holds(e) && !c.damaged[*e]
}

// anyThere returns nil when one of the copies of a blob is there, and else what became of it.
func (c *run) anyThere(h blob.Handle, copies []entry) error {
	if len(copies) == 0 {
		return fmt.Errorf("%v is in no index", h)
	}
	for i := range copies {
		if c.isThere(&copies[i]) {
			return nil
		}
	}
	e := &copies[0]
	p := &c.table.packs[e.pack]
	switch {
	case p.sizeBytes < 0:
		return fmt.Errorf("%v is in pack/%s, which is missing", h, p.id.Short())
	case !p.holds(e):
		return fmt.Errorf("%v is in pack/%s, which is too short", h, p.id.Short())
	}
	return fmt.Errorf("%v is damaged in pack/%s", h, p.id.Short())
}
