package tree

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// holeBytes is the length of the chunks that make up a long run of zero bytes: the chunker's
// digest of 64 zero bytes is zero whatever its polynomial, so it cuts as soon as it may, at its
// minimum of 512 KiB. Only the last chunk of a run is shorter or not all zero.
const holeBytes = 512 << 10

// holeID is the ID of such a chunk.
var holeID = blob.ID{
	0x07, 0x85, 0x4d, 0x2f, 0xef, 0x29, 0x7a, 0x06, 0xba, 0x81, 0x68, 0x5e, 0x66, 0x0c, 0x33, 0x2d,
	0xe3, 0x6d, 0x5d, 0x18, 0xd5, 0x46, 0x92, 0x7d, 0x30, 0xda, 0xad, 0x6d, 0x7f, 0xda, 0x15, 0x41,
}

// holeChunk is what it holds.
var holeChunk [holeBytes]byte

// Layout says where in a file its chunks are. It is immutable and safe for parallel use.
type Layout struct {
	ids  []blob.ID
	ends []uint64 // offset behind each chunk
	size uint64   // bytes, as the node says

	// lostFrom and lostTo delimit the chunks whose place is not known, because at least
	// the first and the last of them are in no index. Those before are placed from the start of the
	// file, those behind from its end.
	lostFrom, lostTo int
	made             time.Time // when something is lost
}

// lostTime is how long a Layout is kept where something is lost. It may be found again: the store had lost sight of its
// index, or somebody repairs that. Without any keeping, each read of such a file would look for new index files.
const lostTime = 5 * time.Second

// Chunk is a piece of a file.
type Chunk struct {
	ID         blob.ID
	Start, End uint64 // offsets in the file
	Lost       bool   // some or all of its bytes are in no index; ID is the first lost one
	Hole       bool   // all zero
}

func (l *Layout) memoryBytes() int64 { return int64(len(l.ids))*40 + 128 }

// Len returns the number of chunks.
func (l *Layout) Len() int { return len(l.ids) }

// Size returns the length of the file in bytes, as its node says. The chunks may hold less or
// more, when the file changed while it was backed up.
func (l *Layout) Size() uint64 { return l.size }

// Chunk returns chunk i.
func (l *Layout) Chunk(i int) Chunk {
	c := Chunk{ID: l.ids[i], End: l.ends[i], Hole: l.ids[i] == holeID}
	if i > 0 {
		c.Start = l.ends[i-1]
	}
	if l.lostFrom <= i && i < l.lostTo {
		c.Lost, c.ID, c.Hole = true, l.ids[l.lostFrom], false
	}
	return c
}

// Find returns the number of the chunk that holds the offset, Len when it is behind them all.
func (l *Layout) Find(off uint64) int {
	return sort.Search(len(l.ends), func(i int) bool { return l.ends[i] > off })
}

// HoleBytes returns the content of a chunk that is a hole. It must not be changed.
func HoleBytes() []byte { return holeChunk[:] }

// NextData returns the first offset at or after off that is not in a hole. It is ErrNoOffset
// when there is none or off is not inside the file. What is lost counts as data.
func (l *Layout) NextData(off uint64) (uint64, error) {
	if off >= l.size {
		return 0, ErrNoOffset
	}
	for i := l.Find(off); i < l.Len(); i++ {
		if c := l.Chunk(i); !c.Hole {
			off = max(off, c.Start)
			if off >= l.size {
				break
			}
			return off, nil
		}
	}
	return 0, ErrNoOffset
}

// NextHole returns the first offset at or after off that is in a hole; the end of the file is
// one. It is ErrNoOffset when off is not inside the file.
func (l *Layout) NextHole(off uint64) (uint64, error) {
	if off >= l.size {
		return 0, ErrNoOffset
	}
	for i := l.Find(off); i < l.Len(); i++ {
		if c := l.Chunk(i); c.Hole {
			return min(max(off, c.Start), l.size), nil
		}
	}
	return l.size, nil
}

// Layout returns where the chunks of a file are. It needs the index only for files of several
// chunks.
func (t *Tree) Layout(ctx context.Context, id NodeID) (*Layout, error) {
	ref, err := t.entry(ctx, id)
	if err != nil {
		return nil, err
	}
	e := ref.c.Entry(ref.entry)
	if e.Type != snapshot.File {
		return nil, fmt.Errorf("%s is a %v: %w", t.Path(ctx, id), e.Type, ErrInvalid)
	}
	content := ref.c.Content(ref.entry)
	if len(content) <= 1 {
		l := &Layout{ids: content, size: e.Size}
		if len(content) == 1 {
			l.ends = []uint64{e.Size}
		}
		return l, nil
	}
	layOut := func(ctx context.Context) (*Layout, error) { return t.layOut(ctx, content, e.Size) }
	l, err := t.layouts.Get(ctx, id, layOut)
	if err == nil && l.lostTo > 0 && time.Since(l.made) >= lostTime {
		l = t.layOutAgain(ctx, id, l, layOut)
	}
	return l, err
}

// layOutAgain replaces a Layout where something is lost. When that is not to be known for the moment, what was known
// stands for as long again.
func (t *Tree) layOutAgain(ctx context.Context, id NodeID, old *Layout, layOut func(context.Context) (*Layout, error)) *Layout {
	l, err := layOut(ctx)
	if err != nil {
		kept := *old
		kept.made = time.Now()
		l = &kept
	}
	t.layouts.Drop(id)
	t.layouts.Put(id, l)
	return l
}

// layOut asks the index for the length of each chunk.
func (t *Tree) layOut(ctx context.Context, content []blob.ID, size uint64) (*Layout, error) {
	// A copy: the list is a part of its tree blob, which would stay in RAM with it.
	l := &Layout{ids: append([]blob.ID(nil), content...), ends: make([]uint64, len(content)), size: size}
	l.lostFrom = len(content)
	lengths := make([]uint64, len(content))
	for i, id := range l.ids {
		n, ok, err := t.chunkBytes(ctx, id, l.lostTo == 0)
		if err != nil {
			return nil, err
		}
		lengths[i] = n
		if !ok {
			l.lostFrom = min(l.lostFrom, i)
			l.lostTo = i + 1
			l.made = time.Now()
		}
	}
	l.place(lengths)
	return l, nil
}

// place turns lengths into offsets, around what is lost.
func (l *Layout) place(lengths []uint64) {
	sum := uint64(0)
	for i := range min(l.lostFrom, len(lengths)) {
		sum += lengths[i]
		l.ends[i] = sum
	}
	if l.lostTo == 0 {
		return
	}
	behind := uint64(0)
	for _, n := range lengths[l.lostTo:] {
		behind += n
	}
	sum = max(sum, l.size-min(l.size, behind)) // where what is lost ends
	for i := l.lostFrom; i < l.lostTo; i++ {
		l.ends[i] = sum
	}
	for i := l.lostTo; i < len(lengths); i++ {
		sum += lengths[i]
		l.ends[i] = sum
	}
}

// chunkBytes returns the length of a chunk; false when no index knows it. refresh allows
// to look for newer index files.
func (t *Tree) chunkBytes(ctx context.Context, id blob.ID, refresh bool) (uint64, bool, error) {
	if id == holeID {
		return holeBytes, true, nil
	}
	h := blob.Handle{Type: blob.Data, ID: id}
	loc, ok, err := t.src.LookupBlob(h)
	if err != nil {
		return 0, false, err
	}
	if ok {
		return uint64(loc.Size()), true, nil
	}
	if !refresh {
		return 0, false, nil
	}
	plain, err := t.src.ReadBlob(ctx, h, nil)
	if errors.Is(err, repo.ErrBlobMissing) {
		return 0, false, nil
	}
	if err == nil {
		return uint64(len(plain)), true, nil
	}
	// Known by now, but its bytes cannot be had: that is the reader's trouble.
	if loc, ok, lookupErr := t.src.LookupBlob(h); ok && lookupErr == nil {
		return uint64(loc.Size()), true, nil
	}
	return 0, false, err
}
