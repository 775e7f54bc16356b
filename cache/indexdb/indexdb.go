// Package indexdb maps blobs to their places in pack files, from a Badger cache on disk.
package indexdb

import (
	"context"
	"log/slog"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// BuilderArg is argv[1] of the child process that builds a generation; main calls BuildMain when it sees it.
const BuilderArg = "index-cache-build"

// BuildMain is the whole of the child process; it returns the exit code.
func BuildMain() int { panic("not yet") }

// Source gives the index files of a repository. Both methods may be called in parallel.
type Source interface {
	IndexFiles(ctx context.Context) ([]backend.Info, error)
	LoadIndexFile(ctx context.Context, id blob.ID, fn func(blob.Entry) error) error
}

// Options may be left zero.
type Options struct {
	Log *slog.Logger
}

// Stats tells the state of an index.
type Stats struct {
	Entries      int64
	Generation   string
	DeltaEntries int64
	DeltaBytes   int64
}

// DB is an index kept in the cache directory.
type DB struct{}

// Open opens the index in dir.
func Open(ctx context.Context, dir string, secret [32]byte, src Source, o Options) (*DB, error) {
	panic("not yet")
}

// Lookup finds a blob.
func (d *DB) Lookup(h blob.Handle) (blob.Location, bool, error) { panic("not yet") }

// Refresh brings the index up to the index files now in the repository.
func (d *DB) Refresh(ctx context.Context) error { panic("not yet") }

// Stats tells the state.
func (d *DB) Stats() Stats { panic("not yet") }

// Close ends all goroutines.
func (d *DB) Close() error { panic("not yet") }

// Memory is an index kept in RAM only.
type Memory struct{}

// OpenMemory loads all index files.
func OpenMemory(ctx context.Context, src Source, o Options) (*Memory, error) { panic("not yet") }

// Lookup finds a blob.
func (m *Memory) Lookup(h blob.Handle) (blob.Location, bool, error) { panic("not yet") }

// Refresh brings the index up to the index files now in the repository.
func (m *Memory) Refresh(ctx context.Context) error { panic("not yet") }

// Stats tells the state.
func (m *Memory) Stats() Stats { panic("not yet") }

// Close frees the memory.
func (m *Memory) Close() error { panic("not yet") }
