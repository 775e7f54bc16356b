package repo

import (
	"fmt"

	"vitrine/repo/blob"
)

// Part is a run of chunks of one file.
type Part struct {
	From, To    int   // of the content list
	OffsetBytes int64 // of the first chunk in the file
	SizeBytes   int64 // of plain content
}

// Parts cuts a file into runs of at most mostBytes, or one chunk where that is longer, for those who read the parts
// of large files in parallel. There is one part at least; that of a small file has the size that is given, which
// nobody has compared with its chunks. A chunk that is in no pack is an error of class ErrBlobMissing.
func (r *Repository) Parts(content []blob.ID, sizeBytes, mostBytes int64) ([]Part, error) {
	if len(content) < 2 || sizeBytes <= mostBytes {
		return []Part{{To: len(content), SizeBytes: sizeBytes}}, nil
	}
	var parts []Part
	var p Part
	for i, id := range content {
		h := blob.Handle{Type: blob.Data, ID: id}
		loc, ok, err := r.LookupBlob(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("look up %v: %w", h, ErrBlobMissing)
		}
		size := int64(loc.Size())
		if p.SizeBytes > 0 && p.SizeBytes+size > mostBytes {
			parts = append(parts, p)
			p = Part{From: i, OffsetBytes: p.OffsetBytes + p.SizeBytes}
		}
		p.To = i + 1
		p.SizeBytes += size
	}
	return append(parts, p), nil
}
