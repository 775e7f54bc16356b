package snapshot

import (
	"errors"
	"math"
	"slices"
)

// maxSharedXattrs bounds the table that finds equal lists of extended attributes. Labels
// repeat over and over; where every file has its own, the table would only cost.
const maxSharedXattrs = 1024

// ParseCompact reads the JSON of a tree blob. It accepts and refuses what DecodeTree
// does, and also refuses directories whose names or chunks pass what 32-bit offsets reach.
func ParseCompact(p []byte) (*Compact, error) {
	b := builder{c: &Compact{records: make([]record, 0, countHint(p))}}
	if err := scanTree(p, b.add); err != nil {
		return nil, err
	}
	b.c.trim()
	b.c.text = string(b.text)
	return b.c, nil
}

// trim gives back space that was reserved in vain.
func (c *Compact) trim() {
	c.records = trim(c.records)
	c.ids = trim(c.ids)
	c.aTimes = trim(c.aTimes)
	c.xattrs = trim(c.xattrs)
	c.specials = trim(c.specials)
}

// builder fills a Compact entry by entry.
type builder struct {
	c      *Compact
	text   []byte
	shared map[string]uint32 // JSON of a list of extended attributes -> record.xattrs
}

func (b *builder) add(s *scanner, n *rawNode) bool {
	c := b.c
	c.records = append(c.records, record{
		size:       n.size,
		inode:      n.inode,
		deviceID:   n.deviceID,
		mSec:       n.mtime.sec,
		cSec:       n.ctime.sec,
		mNsec:      n.mtime.nsec,
		cNsec:      n.ctime.nsec,
		mode:       n.mode,
		uid:        n.uid,
		gid:        n.gid,
		links:      uint32(n.links),
		typ:        n.typ,
		hasSubtree: n.hasSubtree,
	})
	r := &c.records[len(c.records)-1]

	b.text = append(b.text, n.name...)
	r.nameEnd = uint32(len(b.text))
	b.text = append(b.text, n.target()...)
	r.textEnd = uint32(len(b.text))
	if n.hasSubtree {
		c.ids = append(c.ids, n.subtree)
	}
	c.ids = append(c.ids, n.content...)
	r.idsEnd = uint32(len(c.ids))
	if uint64(max(len(b.text), len(c.ids), len(c.records))) > math.MaxUint32 {
		return s.failErr(errors.New("directory too large"))
	}

	b.addATime(n)
	if n.device != 0 || n.links > math.MaxUint32 {
		r.isSpecial = true
		c.specials = append(c.specials, special{uint32(len(c.records) - 1), n.device, n.links})
	}
	return b.addXattrs(s, n, r)
}

// addATime starts the table at the first time that differs.
func (b *builder) addATime(n *rawNode) {
	c := b.c
	if c.aTimes == nil {
		if n.atime.sec == n.mtime.sec && n.atime.nsec == n.mtime.nsec {
			return
		}
		c.aTimes = make([]Timespec, 0, cap(c.records))
		for i := range c.records[:len(c.records)-1] {
			c.aTimes = append(c.aTimes, Timespec{c.records[i].mSec, c.records[i].mNsec})
		}
	}
	c.aTimes = append(c.aTimes, Timespec{n.atime.sec, n.atime.nsec})
}

func (b *builder) addXattrs(s *scanner, n *rawNode, r *record) bool {
	if n.xattrs == nil {
		return true
	}
	if k, ok := b.shared[string(n.xattrs)]; ok {
		r.xattrs = k
		return true
	}
	list, ok := s.xattrs(n)
	if !ok {
		return false
	}
	if len(list) == 0 {
		return true
	}
	b.c.xattrs = append(b.c.xattrs, slices.Clip(list))
	r.xattrs = uint32(len(b.c.xattrs))
	if b.shared == nil {
		b.shared = make(map[string]uint32)
	}
	if len(b.shared) < maxSharedXattrs {
		b.shared[string(n.xattrs)] = r.xattrs
	}
	return true
}

// trim gives back space that was reserved in vain, if it is worth the copy.
func trim[T any](s []T) []T {
	if cap(s)-len(s) <= len(s)/16 {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}
