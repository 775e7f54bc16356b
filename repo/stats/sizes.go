package stats

import (
	"context"
	"math/bits"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// Files is what Sizes reads from; *repo.Repository has it.
type Files interface {
	ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error)
	IndexFiles(ctx context.Context) ([]backend.Info, error)
	LoadIndexFile(ctx context.Context, id blob.ID, fn func(blob.Entry) error) error // fn must not load another one
}

// Histogram counts things by their sizes.
type Histogram struct {
	Count, Bytes      uint64
	Smallest, Largest uint64     // 0 when there are none
	Classes           [65]uint64 // how many have so many binary digits: class n is from 2^(n-1) to below 2^n, class 0 is empty ones
}

// Add counts a thing.
func (h *Histogram) Add(bytes uint64) {
	if h.Count == 0 || bytes < h.Smallest {
		h.Smallest = bytes
	}
	h.Largest = max(h.Largest, bytes)
	h.Count++
	h.Bytes += bytes
	h.Classes[bits.Len64(bytes)]++
}

// Bounds returns the smallest and the largest size of a class.
func Bounds(class int) (least, most uint64) {
	if class == 0 {
		return 0, 0
	}
	return 1 << (class - 1), uint64(1)<<class - 1
}

// Sized is a histogram with what it is of.
type Sized struct {
	What string
	Histogram
}

// Sizes counts the files of a repository by kind, and the blobs that its index files list, as they are stored and as
// they were, by type. What is listed twice counts twice. tell, which may be nil, is told how many index files were read.
func Sizes(ctx context.Context, f Files, tell func(done, total int64)) ([]Sized, error) {
	var out []Sized
	for _, kind := range backend.Kinds {
		if kind == backend.Config {
			continue
		}
		infos, err := f.ListFiles(ctx, kind)
		if err != nil {
			return nil, err
		}
		s := Sized{What: kind.String() + " files"}
		for _, info := range infos {
			s.Add(uint64(info.SizeBytes))
		}
		out = append(out, s)
	}
	infos, err := f.IndexFiles(ctx)
	if err != nil {
		return nil, err
	}
	blobs := [2][2]Sized{} // by blob.Type: stored, plain
	for _, t := range []blob.Type{blob.Data, blob.Tree} {
		blobs[t] = [2]Sized{{What: t.String() + " blobs, as stored"}, {What: t.String() + " blobs, before compression"}}
	}
	for i, info := range infos {
		if tell != nil {
			tell(int64(i), int64(len(infos)))
		}
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return nil, err
		}
		err = f.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			b := &blobs[e.Type]
			b[0].Add(uint64(e.LengthBytes))
			b[1].Add(uint64(e.Size()))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, t := range []blob.Type{blob.Data, blob.Tree} {
		out = append(out, blobs[t][:]...)
	}
	return out, nil
}
