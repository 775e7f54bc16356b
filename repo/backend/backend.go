// Package backend is the storage contract of a repository: a flat store of immutable
// files in six kinds. Each transport (local, mem, …) is a package below this one;
// behaviour (faults, retries, limits) is added by wrapping a Backend in a Backend.
//
// Layout, the same on every transport (FORMAT.md section 1):
//
//	config
//	keys/<id>  snapshots/<id>  index/<id>  locks/<id>
//	data/<first two digits>/<id>
package backend

import (
	"context"
	"fmt"
)

// Kind is the role of a file in the repository.
type Kind uint8

// The kinds of file.
const (
	Config Kind = iota // exactly one, its name is empty
	Key
	Pack
	Index
	Snapshot
	Lock
)

// Kinds lists every kind, Config first.
var Kinds = []Kind{Config, Key, Pack, Index, Snapshot, Lock}

// String returns the word for people and for `vitrine list`.
func (k Kind) String() string {
	switch k {
	case Config:
		return "config"
	case Key:
		return "key"
	case Pack:
		return "pack"
	case Index:
		return "index"
	case Snapshot:
		return "snapshot"
	case Lock:
		return "lock"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Dir returns the directory of the kind below the repository's root; "" for Config.
func (k Kind) Dir() string {
	switch k {
	case Key:
		return "keys"
	case Pack:
		return "data"
	case Index:
		return "index"
	case Snapshot:
		return "snapshots"
	case Lock:
		return "locks"
	}
	return ""
}

// File names one file of a repository. Name is 64 lower-case hexadecimal digits, and
// empty for Config.
type File struct {
	Kind Kind
	Name string
}

// String returns "pack/1f2e3d4c…" with at most 12 digits, for messages.
func (f File) String() string {
	if f.Kind == Config {
		return "config"
	}
	name := f.Name
	if len(name) > 12 {
		name = name[:12] + "…"
	}
	return f.Kind.String() + "/" + name
}

// Path returns the slash-separated path below the repository's root.
func (f File) Path() string {
	switch {
	case f.Kind == Config:
		return "config"
	case f.Kind == Pack && len(f.Name) >= 2:
		return "data/" + f.Name[:2] + "/" + f.Name
	}
	return f.Kind.Dir() + "/" + f.Name
}

// Check returns an error of class ErrName when the name is not one the kind can have. Every
// transport calls it first, so that no name leads out of the repository.
func (f File) Check() error {
	ok := f.Name == ""
	if f.Kind != Config {
		ok = f.Kind <= Lock && len(f.Name) == 64
		for i := 0; ok && i < len(f.Name); i++ {
			c := f.Name[i]
			ok = '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		}
	}
	if !ok {
		return fmt.Errorf("%q as a %v: %w", f.Name, f.Kind, ErrName)
	}
	return nil
}

// Info is what List and Stat tell of a file.
type Info struct {
	Name      string
	SizeBytes int64
}

// Backend stores files. All methods may be called in parallel. Every error names the
// operation and the file. No method retries; wrappers do. A cancelled context ends a call
// soon with the context's error.
type Backend interface {
	// Save publishes a new file. When it returns nil the content is durable and visible
	// under its final name; when it returns an error, the file is either whole or not
	// there. Saving a name that exists is an error of class ErrExist for Config (but see WithReplace), and
	// for other kinds, whose names are hashes of the content, replaces it by the same bytes.
	// The buffer stays the caller's and is not changed.
	Save(ctx context.Context, f File, content []byte) error

	// ReadAt fills p with the bytes that start at offsetBytes. Fewer than len(p) bytes is
	// an error of class ErrShort; a missing file one of class ErrNotExist.
	ReadAt(ctx context.Context, f File, p []byte, offsetBytes int64) error

	// ReadAll returns the whole file in a fresh buffer, which is the caller's. A file of more
	// than maxBytes is an error of class ErrTooBig, found before it is allocated.
	ReadAll(ctx context.Context, f File, maxBytes int64) ([]byte, error)

	// Stat returns the size of a file, or an error of class ErrNotExist.
	Stat(ctx context.Context, f File) (Info, error)

	// List calls fn once for each file of the kind, in no particular order, from one
	// goroutine. Names that are no file of this kind (temporary files, foreign files) are left
	// out. An error of fn ends the listing and is returned as it is.
	List(ctx context.Context, kind Kind, fn func(Info) error) error

	// Remove deletes a file; a missing one is an error of class ErrNotExist.
	Remove(ctx context.Context, f File) error

	// Location describes the store to people, without credentials: "local:/srv/backup".
	Location() string

	// Close releases connections. No call may follow it.
	Close() error
}
