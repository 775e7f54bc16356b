package repo

import (
	"context"

	"vitrine/repo/blob"
	"vitrine/repo/internal/claims"
)

// DryWriter tells what a Writer would store, and stores nothing. Its methods may be called in parallel.
type DryWriter struct {
	r      *Repository
	claims *claims.Set // of what would be stored
}

// NewDryWriter returns a writer to which only the repository is known.
func (r *Repository) NewDryWriter() *DryWriter { return &DryWriter{r, r.newClaims()} }

// Close gives free what the writer remembers. No call may follow it.
func (w *DryWriter) Close() { w.claims.Close() }

// SaveBlob tells what Writer.SaveBlob would.
func (w *DryWriter) SaveBlob(ctx context.Context, t blob.Type, plain []byte) (Saved, error) {
	return w.SaveHashed(ctx, blob.Handle{Type: t, ID: blob.Hash(plain)}, plain)
}

// SaveHashed tells what Writer.SaveHashed would.
func (w *DryWriter) SaveHashed(ctx context.Context, h blob.Handle, plain []byte) (Saved, error) {
	saved := Saved{ID: h.ID}
	if ctx.Err() != nil {
		return saved, context.Cause(ctx)
	}
	_, known, err := w.r.LookupBlob(h)
	if err != nil || known || !w.claims.Add(h) {
		return saved, err
	}
	saved.New = true
	saved.StoredBytes, err = w.r.StoredBytes(plain)
	return saved, err
}

// SaveBlobs tells what Writer.SaveBlobs would.
func (w *DryWriter) SaveBlobs(ctx context.Context, t blob.Type, plains [][]byte, saved []Saved) error {
	for i, plain := range plains {
		var err error
		if saved[i], err = w.SaveBlob(ctx, t, plain); err != nil {
			return err
		}
	}
	return nil
}

// Known reports whether the blob is in the index.
func (w *DryWriter) Known(h blob.Handle) (bool, error) {
	_, known, err := w.r.LookupBlob(h)
	return known, err
}
