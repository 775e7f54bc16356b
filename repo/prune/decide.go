package prune

import (
	"cmp"
	"slices"
)

// action is what becomes of a pack.
type action uint8

const (
	keep   action = iota
	repack        // needed blobs are written again, then it is removed
	remove        // nothing in it is needed
	drop          // its file is gone already, and nothing in it is needed
)

// pack is what the decision needs to know of one.
type pack struct {
	used       Tally // blobs whose kept copy is here
	unused     Tally // the others
	duplicates Tally // those of unused that are needed and kept elsewhere
	trees      bool  // it holds some
	mixed      bool  // it holds trees and data
	plain      bool  // some blobs are not compressed
	sizeBytes  int64 // of the file, -1 when there is none
	wantBytes  int64 // what the index makes it
}

func (p *pack) bytes() int64 { return p.used.Bytes + p.unused.Bytes }

// rules are the options as the decision needs them.
type rules struct {
	Options
	version    uint
	compresses bool  // new blobs are compressed
	packBytes  int64 // of new packs
}

// fewSmall is how many small packs are not worth the trouble; there is always one that was written last.
const fewSmall = 10

// decision is what decide returns.
type decision struct {
	actions []action // by pack
	missing []int    // packs with needed blobs that have no file
	odd     []int    // packs with needed blobs whose file has another size than the index says
}

// candidate is a pack that may be repacked.
type candidate struct {
	no   int
	must bool // whatever is unused
}

// decide finds what becomes of each pack. These are the rules, the first that applies decides:
//
//	nothing needed in it                    remove (drop when it is gone already)
//	it is not there, or has the wrong size  nothing may be done: decision.missing, decision.odd
//	data, and only trees are wanted         keep
//	all of it needed, nothing wrong with it keep; --repack-small: a candidate if small and one of ten
//	else                                    a candidate
//
// Candidates are repacked while that stays below MaxRepackBytes: trees and mixed packs first, then small ones,
// then those with the largest part unused. Trees are
// repacked in any case, so that they stay few and together, and so is what needs it for another reason than unused
// blobs (mixed, not compressed, small); the others until what is left unused is within MaxUnused.
func decide(packs []pack, r rules) decision {
	d := decision{actions: make([]action, len(packs))}
	var candidates, small []candidate
	var used, unused int64 // bytes; unused only of what stays
	for i := range packs {
		p := &packs[i]
		used += p.used.Bytes
		if p.used.Blobs == 0 {
			d.actions[i] = remove
			if p.sizeBytes < 0 {
				d.actions[i] = drop
			}
			continue
		}
		unused += p.unused.Bytes
		c := candidate{i, r.mustRepack(p)}
		switch {
		case p.sizeBytes < 0:
			d.missing = append(d.missing, i)
		case p.sizeBytes != p.wantBytes:
			d.odd = append(d.odd, i)
		case r.CacheableOnly && !p.trees:
		case p.unused.Blobs > 0 || c.must:
			c.must = c.must || p.trees || r.isSmall(p)
			candidates = append(candidates, c)
		case r.isSmall(p):
			c.must = true
			small = append(small, c)
		}
	}
	if len(small) >= fewSmall {
		candidates = append(candidates, small...)
	}
	slices.SortFunc(candidates, func(a, b candidate) int { return r.compare(&packs[a.no], &packs[b.no], a.no, b.no) })
	allowed := r.MaxUnused.allowed(used)
	var repacked int64
	for _, c := range candidates {
		p := &packs[c.no]
		if p.bytes() > r.MaxRepackBytes-repacked || !c.must && unused <= allowed {
			continue
		}
		d.actions[c.no] = repack
		repacked += p.bytes()
		unused -= p.unused.Bytes
	}
	return d
}

// mustRepack reports whether a pack is not as packs are today.
func (r *rules) mustRepack(p *pack) bool {
	if r.version < 2 {
		return false
	}
	return p.mixed || r.compresses && p.plain && (p.trees || r.Uncompressed)
}

// Reasons count packs that are written again by why they are, the first that applies.
type Reasons struct {
	Mixed        int // data and trees together, as restic wrote before its version 0.8
	Uncompressed int // in a repository that compresses
	Unused       int // blobs that nobody needs
	Twice        int // no such blobs, but some that another pack has too
	Small        int
}

// add counts a pack that is written again.
func (s *Reasons) add(p *pack, r *rules) {
	switch {
	case r.version >= 2 && p.mixed:
		s.Mixed++
	case r.mustRepack(p):
		s.Uncompressed++
	case p.unused.Blobs > p.duplicates.Blobs:
		s.Unused++
	case p.unused.Blobs > 0:
		s.Twice++
	default:
		s.Small++
	}
}

func (r *rules) isSmall(p *pack) bool {
	limit := r.packBytes / 5 * 4
	if r.SmallBytes > 0 {
		limit = r.SmallBytes
	}
	return r.Small && p.sizeBytes < limit
}

// compare orders candidates: the first are repacked first.
func (r *rules) compare(p, q *pack, no, other int) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	return cmp.Or(
		first(p.trees, q.trees),
		first(r.isSmall(p), r.isSmall(q)),
		cmp.Compare(float64(q.unused.Bytes)/float64(q.bytes()), float64(p.unused.Bytes)/float64(p.bytes())),
		cmp.Compare(no, other))
}

// Stats is what a plan does, in blobs and sealed bytes.
type Stats struct {
	Used       Tally // needed, each blob once
	Duplicates Tally // further copies of them
	Unused     Tally // needed by nobody

	Repack     Tally // in packs that are written again, with what goes from them
	RepackGone Tally // what goes from them
	Remove     Tally // in packs that are removed
	Unlisted   int64 // bytes of packs that no index file lists; they are removed
	Why        Reasons

	Packs, KeepPacks, RepackPacks, RemovePacks, UnlistedPacks int
	IndexFiles, RewriteIndexFiles                             int
}

// Freed returns what the plan removes.
func (s *Stats) Freed() Tally {
	t := s.Remove
	t.sum(s.RepackGone)
	t.Bytes += s.Unlisted
	return t
}

// Left returns what is left of blobs.
func (s *Stats) Left() Tally {
	t := s.Used
	t.sum(s.LeftUnused())
	return t
}

// LeftUnused returns what is left and needed by nobody, or there twice.
func (s *Stats) LeftUnused() Tally {
	t := s.Unused
	t.sum(s.Duplicates)
	t.sum(Tally{-s.Remove.Blobs - s.RepackGone.Blobs, -s.Remove.Bytes - s.RepackGone.Bytes})
	return t
}

// count adds up what the actions do.
func (s *Stats) count(packs []pack, actions []action) {
	for i := range packs {
		p := &packs[i]
		s.Packs++
		s.Used.sum(p.used)
		s.Duplicates.sum(p.duplicates)
		s.Unused.sum(Tally{p.unused.Blobs - p.duplicates.Blobs, p.unused.Bytes - p.duplicates.Bytes})
		switch actions[i] {
		case keep:
			s.KeepPacks++
		case repack:
			s.RepackPacks++
			s.Repack.sum(p.used)
			s.Repack.sum(p.unused)
			s.RepackGone.sum(p.unused)
		case remove, drop:
			s.RemovePacks++
			s.Remove.sum(p.unused)
		}
	}
}
