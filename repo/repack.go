package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/indexfile"
	"vitrine/repo/internal/packfile"
)

// RepackOptions say how blobs are written again.
type RepackOptions struct {
	// Frame makes a zstd frame of data blobs that are stored plain even where that saves nothing, so
	// that they count as compressed from then on. Trees always become frames. Neither happens in version 1, or
	// when the repository is open for no compression.
	Frame bool
	// Recompress compresses again what is compressed already. It is for CopyFrom, to a repository with another level.
	Recompress bool
	// Copies returns all places of a blob, for one whose copy is damaged; nil knows of no others.
	Copies func(h blob.Handle) []blob.Location
	// Done is told, on one goroutine, of blobs that are in new packs, which need not be stored yet; it may be nil.
	Done func(blobs int, sealedBytes int64)
	// Lost is told, on one goroutine, of a blob of which no copy could be read; an error ends Repack. Nil
	// returns that of the blob.
	Lost func(e blob.Entry, err error) error
}

// Repack writes blobs again into new packs, in the order given, and lists these in new index files; the old packs and
// index files stay. Each element of packs is blobs of one pack, sorted by offset, and is Repack's then; packs runs on a
// goroutine of its own. No blob may come twice. What the index knows does not matter, and Repack needs none.
//
// Each blob is opened and compared with its ID before it is written again. What is compressed keeps its
// sealed bytes; what is not may become so. Neighbours are read with one request, several requests at a time.
//
// It returns the sealed bytes that it wrote. Nil as the error means that all is durable; after an error some
// blobs are there twice. The caller holds an exclusive lock.
func (r *Repository) Repack(ctx context.Context, packs iter.Seq[[]blob.Entry], o RepackOptions) (writtenBytes int64, err error) {
	if o.Lost == nil {
		o.Lost = func(_ blob.Entry, err error) error { return err }
	}
	l := newLister(r)
	l.alone = true
	err = r.write(ctx, l, func(ctx context.Context, w *Writer) error {
		return w.repack(ctx, r, packs, o, &writtenBytes)
	})
	return writtenBytes, err
}

// repacked is a run of blobs of one pack, ready to be written again.
type repacked struct {
	entries []blob.Entry // of the old pack; Length and PlainBytes as they will be
	sealed  *[]byte      // of all entries, one behind the other
	was     int64        // sealed bytes in the old pack
	lost    []lostBlob
}

type lostBlob struct {
	entry blob.Entry
	err   error
}

// CopyFrom is Repack for blobs of another repository, whose locations are those there. src needs its index, to find another copy
// of what is damaged or gone. Frames are sealed as they are, unless o.Recompress is set; for a version that knows no frames
// they are decompressed. Blobs that the index of r knows should not be among them; those that another client stores
// meanwhile are left out as they are in Write, and the caller's lock is that of Write.
func (r *Repository) CopyFrom(ctx context.Context, src *Repository, packs iter.Seq[[]blob.Entry], o RepackOptions) (writtenBytes int64, err error) {
	if o.Lost == nil {
		o.Lost = func(_ blob.Entry, err error) error { return err }
	}
	err = r.Write(ctx, func(ctx context.Context, w *Writer) error {
		return w.repack(ctx, src, packs, o, &writtenBytes)
	})
	return writtenBytes, err
}

// repack reads and decodes some runs of blobs of src at a time, and appends them to the open packs in their order, so that
// neighbours stay neighbours.
func (w *Writer) repack(ctx context.Context, src *Repository, packs iter.Seq[[]blob.Entry], o RepackOptions, writtenBytes *int64) error {
	group, ctx := errgroup.WithContext(ctx)
	runs := make(chan chan *repacked, runtime.GOMAXPROCS(0)+1) // bounds those in memory
	group.Go(func() error {
		defer close(runs)
		for entries := range packs {
			for _, run := range planRuns(entries) {
				ready := make(chan *repacked, 1)
				select {
				case runs <- ready:
				case <-ctx.Done():
					return ctx.Err()
				}
				group.Go(func() error {
					done, err := w.r.recode(ctx, src, run, o)
					if err == nil {
						ready <- done
					}
					return err
				})
			}
		}
		return nil
	})
	group.Go(func() error {
		for ready := range runs {
			select {
			case run := <-ready:
				if err := w.append(run, o, writtenBytes); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// append adds the blobs of a run to the open packs.
func (w *Writer) append(run *repacked, o RepackOptions, writtenBytes *int64) error {
	for _, l := range run.lost {
		if err := o.Lost(l.entry, l.err); err != nil {
			return err
		}
	}
	at := 0
	for _, e := range run.entries {
		end := at + int(e.LengthBytes)
		w.packers[e.Type].add(e, (*run.sealed)[at:end], w.r.packBytes, w)
		at = end
	}
	*writtenBytes += int64(at)
	putSealed(run.sealed)
	if o.Done != nil {
		o.Done(len(run.entries)+len(run.lost), run.was)
	}
	return nil
}

// planRuns cuts the blobs of a pack into those that are read with one request, in their order. What PlanSpans leaves out,
// since it is odd, is a run of its own without a span.
func planRuns(entries []blob.Entry) []packRun {
	locs := make([]blob.Location, len(entries))
	for i := range entries {
		locs[i] = entries[i].Location
	}
	var runs []packRun
	planned := make([]bool, len(entries))
	for _, s := range PlanSpans(locs, batchLimits) {
		run := packRun{span: &s}
		for _, i := range s.Blobs {
			planned[i] = true
			run.entries = append(run.entries, entries[i])
		}
		runs = append(runs, run)
	}
	for i, e := range entries {
		if !planned[i] {
			runs = append(runs, packRun{entries: []blob.Entry{e}})
		}
	}
	return runs
}

// packRun is blobs of a pack that are read with one request, or one alone when span is nil.
type packRun struct {
	span    *Span
	entries []blob.Entry
}

// recode reads the blobs of a run in src, verifies them and makes what is to be written in r, which may be src.
func (r *Repository) recode(ctx context.Context, src *Repository, run packRun, o RepackOptions) (*repacked, error) {
	out := &repacked{entries: make([]blob.Entry, 0, len(run.entries)), sealed: getSealed()}
	*out.sealed = (*out.sealed)[:0]
	read := getSealed()
	defer putSealed(read)
	whole := false
	if run.span != nil {
		*read = slices.Grow((*read)[:0], run.span.LengthBytes)[:run.span.LengthBytes]
		err := src.ReadSpan(hinted(ctx, run.entries[0].Type), run.span, *read)
		if err != nil && !IsLost(err) {
			return nil, err
		}
		whole = err == nil // else blob by blob: some may be there
	}
	scratch, plain := getSealed(), getSealed()
	defer putSealed(scratch)
	defer putSealed(plain)
	for _, e := range run.entries {
		out.was += int64(e.LengthBytes)
		var frame, content []byte
		var err error
		if whole {
			// A copy, since decoding overwrites.
			*scratch = append((*scratch)[:0], run.span.Sealed(*read, e.Location)...)
			frame, content, err = src.decodeFrame(e, *scratch, *plain)
		}
		opened := whole && err == nil
		if !opened {
			content, err = r.readAgain(ctx, src, e, *plain, o)
		}
		switch {
		case err != nil && !IsLost(err) && !errors.Is(err, ErrBlobMissing):
			return nil, err
		case err != nil:
			out.lost = append(out.lost, lostBlob{e, err})
			continue
		}
		*plain = content
		switch {
		case opened && src == r && !r.recompresses(e):
			*out.sealed = append(*out.sealed, run.span.Sealed(*read, e.Location)...)
		case opened && src != r && frame != nil && r.config.Version >= 2 && !o.Recompress:
			err = r.sealFrame(out, &e, frame)
		default:
			err = r.encodeAgain(out, &e, content, o)
		}
		if err != nil {
			return nil, err
		}
		out.entries = append(out.entries, e)
	}
	return out, nil
}

// decodeFrame is DecodeBlob, and returns also what was sealed, in the space of sealed, when that is a zstd frame.
func (r *Repository) decodeFrame(e blob.Entry, sealed, buf []byte) (frame, plain []byte, err error) {
	if !e.Compressed() {
		plain, err = r.DecodeBlob(e, sealed, buf)
		return nil, plain, err
	}
	if frame, err = r.key.OpenInPlace(sealed); err == nil {
		plain, err = compress.Decompress(buf[:0], frame, int(e.PlainBytes))
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	} else {
		err = compareID(e.ID, blob.Hash(plain))
	}
	if err != nil {
		return nil, nil, decodeError(&e, err)
	}
	return frame, plain, nil
}

// sealFrame seals a frame of another repository at the end of out.sealed and notes its length in e.
func (r *Repository) sealFrame(out *repacked, e *blob.Entry, frame []byte) error {
	start := len(*out.sealed)
	*out.sealed = r.key.Seal(*out.sealed, frame)
	sealed := (*out.sealed)[start:]
	e.LengthBytes = uint32(len(sealed))
	if !r.verify {
		return nil
	}
	if err := r.key.Verify(sealed, frame); err != nil {
		return Advised(fmt.Errorf("save %v: verify before storing: %w; is the memory of this machine sound?", e.Handle, err))
	}
	return nil
}

// recompresses reports whether a blob may be stored smaller than it is.
func (r *Repository) recompresses(e blob.Entry) bool {
	return !e.Compressed() && r.Compresses()
}

// encodeAgain seals a blob anew at the end of out.sealed and notes its lengths in e.
func (r *Repository) encodeAgain(out *repacked, e *blob.Entry, content []byte, o RepackOptions) error {
	enc := looseEncoders.get(len(content))
	defer looseEncoders.put(enc)
	sealed, plainBytes, err := enc.encode(r, content, (o.Frame || e.Type == blob.Tree) && r.Compresses())
	if err != nil {
		return fmt.Errorf("save %v: %w", e.Handle, err)
	}
	*out.sealed = append(*out.sealed, sealed...)
	e.LengthBytes, e.PlainBytes = uint32(len(sealed)), plainBytes
	return nil
}

// readAgain reads a blob that could not be read with its neighbours.
func (r *Repository) readAgain(ctx context.Context, src *Repository, e blob.Entry, buf []byte, o RepackOptions) ([]byte, error) {
	if src != r {
		return src.ReadBlob(ctx, e.Handle, buf)
	}
	return r.readAnyCopy(ctx, e, buf, o)
}

// readAnyCopy reads a blob from where it is said to be, or else from another place.
func (r *Repository) readAnyCopy(ctx context.Context, e blob.Entry, buf []byte, o RepackOptions) ([]byte, error) {
	plain, err := r.ReadBlobAt(ctx, e.Handle, e.Location, buf)
	if err == nil || !IsLost(err) || o.Copies == nil {
		return plain, err
	}
	for _, other := range o.Copies(e.Handle) {
		if other == e.Location {
			continue
		}
		plain, otherErr := r.ReadBlobAt(ctx, e.Handle, other, buf)
		if otherErr == nil {
			r.log.Warn("a blob was read from another copy", "error", err)
			return plain, nil
		}
		if !IsLost(otherErr) {
			return nil, NotLost(otherErr, err)
		}
		err = errors.Join(err, otherErr)
	}
	return nil, err
}

// SaveIndex writes an index file that lists packs with the entries given, of which those of one pack stand together. It
// returns the name of the file, which is durable then.
func (r *Repository) SaveIndex(ctx context.Context, entries []blob.Entry) (blob.ID, error) {
	var packs []indexfile.Pack
	for from, i := 0, 1; i <= len(entries); i++ {
		if i == len(entries) || entries[i].Pack != entries[from].Pack {
			packs = append(packs, indexfile.Pack{ID: entries[from].Pack, Blobs: entries[from:i]})
			from = i
		}
	}
	id, err := r.SaveFile(ctx, backend.Index, indexfile.Append(nil, packs))
	if err != nil {
		return id, fmt.Errorf("write index: %w", err)
	}
	return id, nil
}

// PackBytes returns the size that new packs are meant to have.
func (r *Repository) PackBytes() int { return r.packBytes }

// Compresses reports whether blobs that are written are compressed where that helps.
func (r *Repository) Compresses() bool { return r.config.Version >= 2 && !r.codec.Off() }

// Fits reports whether entries are those of a pack file of that size: they follow each other from its beginning without
// a gap, and leave the space that their header takes. They are sorted by offset.
func Fits(entries []blob.Entry, sizeBytes int64) bool {
	var end int64
	for i := range entries {
		if int64(entries[i].OffsetBytes) != end {
			return false
		}
		end += int64(entries[i].LengthBytes)
	}
	return len(entries) > 0 && end+int64(packfile.HeaderBytes(entries)) == sizeBytes
}
