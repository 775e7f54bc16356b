package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/compress"
)

// maxFileBytes bounds the plain text of a sealed file. An index file of restic's holds
// some 50 000 blobs in 8 MB; older ones were merged to hundreds of MB.
const maxFileBytes = 1 << 30

// zstdMark is the first plain byte of a compressed sealed file (FORMAT.md section 2).
const zstdMark = 0x02

// ListFiles lists the files of a kind, in no particular order. Whether a directory that is not there is an empty one
// is for the store to know: an error of any class means that nothing is known of the files.
func (r *Repository) ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error) {
	var infos []backend.Info
	err := r.be.List(ctx, kind, func(info backend.Info) error {
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}

// ReadFile returns the plain text of a sealed file (index, snapshot, lock) after checking
// that its bytes match its name and its MAC. Damage is of class ErrCorrupt, a missing file of
// class backend.ErrNotExist.
func (r *Repository) ReadFile(ctx context.Context, kind backend.Kind, id blob.ID) ([]byte, error) {
	f := backend.File{Kind: kind, Name: id.String()}
	marked, err := r.readMarked(ctx, f, id)
	if err != nil {
		return nil, err
	}
	return plainOf(f, marked)
}

// readMarked returns what was sealed in a file.
func (r *Repository) readMarked(ctx context.Context, f backend.File, id blob.ID) ([]byte, error) {
	sealed, err := r.be.ReadAll(ctx, f, maxFileBytes)
	if err != nil {
		return nil, err
	}
	if blob.Hash(sealed) != id {
		return nil, fmt.Errorf("%v: %w", f, ErrNotAsNamed)
	}
	marked, err := r.key.OpenInPlace(sealed)
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %w", f, ErrCorrupt, err)
	}
	return marked, nil
}

// plainOf returns the plain text of a file, of what was sealed in it.
func plainOf(f backend.File, marked []byte) ([]byte, error) {
	plain, err := unmark(marked)
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %w", f, ErrCorrupt, err)
	}
	return plain, nil
}

// unmark takes the compression of a sealed file's plain text off.
func unmark(plain []byte) ([]byte, error) {
	switch {
	case len(plain) == 0:
		return nil, errors.New("empty")
	case plain[0] == '{' || plain[0] == '[':
		return plain, nil
	case plain[0] == zstdMark:
		return compress.DecompressLimit(plain[1:], maxFileBytes)
	}
	return nil, fmt.Errorf("unknown encoding byte 0x%02x", plain[0])
}

// SaveFile seals and stores the JSON plain text of an index, snapshot or lock file and
// returns its name. When it returns nil the file is durable. An index or a snapshot, which name other files, is removed
// again when the lock does not hold any more behind it (see WithLockCheck).
func (r *Repository) SaveFile(ctx context.Context, kind backend.Kind, plain []byte) (blob.ID, error) {
	if err := mayChange(ctx, kind); err != nil {
		return blob.ID{}, err
	}
	marked := plain
	if r.config.Version >= 2 {
		marked = r.codec.CompressAlways([]byte{zstdMark}, plain)
	}
	sealed := r.key.Seal(nil, marked)
	if r.verify {
		again, err := r.key.Open(nil, sealed)
		if err == nil {
			again, err = unmark(again)
		}
		if err == nil && !bytes.Equal(again, plain) {
			err = errors.New("plain text differs")
		}
		if err != nil {
			return blob.ID{}, Advised(fmt.Errorf("verify new %v file before storing it: %w; is the memory of this machine sound?", kind, err))
		}
	}
	id := blob.Hash(sealed)
	if err := r.be.Save(ctx, backend.File{Kind: kind, Name: id.String()}, sealed); err != nil {
		return id, err
	}
	if kind == backend.Index || kind == backend.Snapshot {
		if err := mayChange(ctx, kind); err != nil {
			return blob.ID{}, errors.Join(err, r.undoSave(ctx, kind, id))
		}
	}
	return id, nil
}

// RemoveFile deletes a file of the repository. The caller holds the lock that allows it.
func (r *Repository) RemoveFile(ctx context.Context, kind backend.Kind, id blob.ID) error {
	if err := mayChange(ctx, kind); err != nil {
		return err
	}
	return r.be.Remove(ctx, backend.File{Kind: kind, Name: id.String()})
}

// noMatch is of class ErrNoMatch, and says where to look.
func noMatch(kind backend.Kind, prefix string) error {
	err := fmt.Errorf("%v %q: %w", kind, prefix, ErrNoMatch)
	switch kind {
	case backend.Snapshot:
		return Advised(fmt.Errorf("%w; see `vitrine snapshots`", err))
	case backend.Key:
		return Advised(fmt.Errorf("%w; see `vitrine key list`", err))
	}
	return err
}

// Resolve finds the file whose name begins with the prefix. None is an error of class
// ErrNoMatch, several one of class ErrAmbiguous.
func (r *Repository) Resolve(ctx context.Context, kind backend.Kind, prefix string) (blob.ID, error) {
	if id, err := blob.ParseID(prefix); err == nil {
		if _, err := r.be.Stat(ctx, backend.File{Kind: kind, Name: prefix}); err == nil {
			return id, nil
		} else if !errors.Is(err, backend.ErrNotExist) {
			return blob.ID{}, err
		}
		return blob.ID{}, noMatch(kind, prefix)
	}
	infos, err := r.ListFiles(ctx, kind)
	if err != nil {
		return blob.ID{}, err
	}
	var found []string
	for _, info := range infos {
		if prefix != "" && strings.HasPrefix(info.Name, prefix) {
			found = append(found, info.Name)
		}
	}
	switch len(found) {
	case 0:
		return blob.ID{}, noMatch(kind, prefix)
	case 1:
		return blob.ParseID(found[0])
	}
	return blob.ID{}, fmt.Errorf("%v %q: %w: %d files begin so; give more digits", kind, prefix, ErrAmbiguous, len(found))
}
