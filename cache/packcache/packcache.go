// Package packcache keeps files of a remote repository on the local disk, as they are stored: sealed.
// It is a wrapper of backend.Backend.
//
//	<dir>/data/<id>       packs that hold trees, whole
//	<dir>/index/<id>      index files
//	<dir>/snapshots/<id>  snapshots
//	<dir>/tmp-*           what is being written
//	<dir>/evict.lock      flock of whoever makes room
//
// What is kept. A read of a pack whose context says backend.HintTree fetches the pack with one
// request, once for all who ask at the same time, and is answered from the file then; while that takes long, the
// store is asked for the range besides. Snapshots and index
// files are kept when they are read or saved, and packs of trees when they are saved. Config, keys and locks
// are never kept: they may change, and whoever asks wants to know how they are now.
//
// What is not kept: ranges of packs with file contents. A tree is read by every walk, by each backup as the
// parent, and again after each remount; a file is mostly copied out once, and after that the kernel's page cache
// has it. Contents are a hundred times larger, so they would drive the trees out of the budget.
//
// What is in the files is never believed. The name of each is the SHA-256 of its content: it is compared before
// the file is kept, and when a process first uses it. From then on the process knows a CRC-32C of each
// 16 KiB of a pack and compares the blocks that it reads. A file that does not match is
// removed and fetched again. Trouble with the disk (full, broken, directory gone) makes the store be asked
// instead, and is logged at level debug.
//
// Several processes share a directory. A file is published by a rename, without fsync: what a power loss
// leaves of it does not match its name. A file may vanish at any time.
//
// A file that another client removed from the repository may still be answered, until a listing of its
// kind through this wrapper does not name it any more; its bytes are what they always were.
package packcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

const (
	// maxFileBytes is the size of the largest file that is kept. While it is fetched it is in memory.
	maxFileBytes = 32 << 20

	// fetches is how many packs are fetched at a time: together they take fetches*maxFileBytes of memory.
	fetches = 2

	// maxFlights is how many packs are fetched or wait for their turn. On a slow line more would queue up than
	// anybody still wants when they come; whoever wants a further one gets his range from the store.
	maxFlights = 8

	// patience is how long a reader waits for a whole pack. On a line of 30 MB/s it comes within that time; on a
	// slower one readers get their ranges from the store until it is there.
	patience = 500 * time.Millisecond

	// directFor is how long the ranges of a pack that cannot be kept are asked of the store.
	directFor = 10 * time.Minute
)

// Options say how much is kept.
type Options struct {
	// BudgetBytes is what the files may take, within a sixteenth for each process. A file larger
	// than a quarter of it is not kept. 0 means a tenth of what would be free on the disk without the
	// cache, at most 5 GiB.
	BudgetBytes int64

	Log *slog.Logger // nil discards
}

// Backend is the wrapper.
type Backend struct {
	backend.Backend // what is not overridden below is not cached: Stat, Location
	disk            *disk
	log             *slog.Logger

	tasks sync.WaitGroup // flights, for Close
	queue chan struct{}  // one for each fetch under way or waiting
	slots chan struct{}  // one for each fetch under way

	patience time.Duration

	mu      sync.Mutex           // guards the maps; not held across I/O
	packs   map[string]*pack     // verified by this process
	flights map[string]*flight   // being verified or fetched
	direct  map[string]time.Time // not kept, until then
}

// New wraps a store. dir belongs to this package and to one repository; it is made when it is missing.
// The wrapper takes over the store: Close closes it.
func New(be backend.Backend, dir string, o Options) (backend.Backend, error) {
	if o.BudgetBytes < 0 {
		return nil, fmt.Errorf("open pack cache: a budget of %d bytes", o.BudgetBytes)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open pack cache: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Backend{
		Backend: be, log: o.Log,
		disk:  &disk{dir: dir, log: o.Log, budget: o.BudgetBytes},
		queue: make(chan struct{}, maxFlights), slots: make(chan struct{}, fetches), patience: patience,
		packs:   make(map[string]*pack),
		flights: make(map[string]*flight),
		direct:  make(map[string]time.Time),
	}
	return b, nil
}

// Close implements backend.Backend. It ends fetches that nobody waits for any more.
func (b *Backend) Close() error {
	b.mu.Lock()
	for _, fl := range b.flights {
		fl.cancel()
	}
	b.mu.Unlock()
	b.tasks.Wait()
	return b.Backend.Close()
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if f.Kind != backend.Pack || backend.HintOf(ctx) != backend.HintTree || f.Check() != nil || ctx.Err() != nil {
		return b.Backend.ReadAt(ctx, f, p, offsetBytes)
	}
	err := b.readTree(ctx, f, p, offsetBytes)
	if errors.Is(err, errDirect) {
		return b.Backend.ReadAt(ctx, f, p, offsetBytes)
	}
	return err
}

// errDirect tells that the store itself has to be asked.
var errDirect = errors.New("not in the cache")

// readTree reads from the file of a pack, which it makes first when it is missing. A file that turns out
// damaged or gone is made again once.
func (b *Backend) readTree(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	for range 2 {
		pk, fl := b.get(ctx, f)
		if fl != nil {
			if err := fl.wait(ctx, f); err != nil {
				return err
			}
			if fl.content != nil {
				return inside(f, int64(len(fl.content)), p, offsetBytes, func() error {
					copy(p, fl.content[offsetBytes:])
					return nil
				})
			}
			pk = fl.pack
		}
		if pk == nil {
			return errDirect
		}
		err := inside(f, pk.sizeBytes, p, offsetBytes, func() error { return pk.readAt(b.disk.path(f), p, offsetBytes) })
		if err == nil || errors.Is(err, backend.ErrShort) {
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) { // a file that is gone is no trouble: somebody made room
			b.disk.trouble("read", err)
		}
		b.drop(f, pk)
	}
	return errDirect
}

// inside calls do when the range lies in a file of that size.
func inside(f backend.File, sizeBytes int64, p []byte, offsetBytes int64, do func() error) error {
	if offsetBytes < 0 || offsetBytes > sizeBytes || sizeBytes-offsetBytes < int64(len(p)) {
		return fmt.Errorf("read %v at %d+%d: it has %d bytes: %w", f, offsetBytes, len(p), sizeBytes, backend.ErrShort)
	}
	return do()
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	if !keptWhole(f.Kind) || f.Check() != nil || ctx.Err() != nil {
		return b.Backend.ReadAll(ctx, f, maxBytes)
	}
	if content, ok := b.disk.load(f, maxBytes); ok {
		return content, nil
	}
	content, err := b.Backend.ReadAll(ctx, f, maxBytes)
	if err == nil {
		b.keep(f, content)
	}
	return content, err
}

// keptWhole tells of which kinds every file is kept.
func keptWhole(k backend.Kind) bool { return k == backend.Snapshot || k == backend.Index }

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	err := b.Backend.Save(ctx, f, content)
	if err == nil && (keptWhole(f.Kind) || f.Kind == backend.Pack && backend.HintOf(ctx) == backend.HintTree) {
		b.keep(f, content)
	}
	return err
}

// keep publishes a file that the store has, if it is what its name says.
func (b *Backend) keep(f backend.File, content []byte) {
	if int64(len(content)) > b.disk.largest() || blob.Hash(content).String() != f.Name {
		return
	}
	if err := b.disk.publish(f, content); err != nil {
		b.disk.trouble("write", err)
	}
}

// List implements backend.Backend. What a complete listing does not name leaves the cache, and so does a whole file that has
// another size there: the store may have lost a part of it, which must not stay unknown.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	if !keptWhole(kind) && kind != backend.Pack {
		return b.Backend.List(ctx, kind, fn)
	}
	gone := b.disk.sizes(kind) // from before: what is published meanwhile stays
	err := b.Backend.List(ctx, kind, func(info backend.Info) error {
		if size, ok := gone[info.Name]; ok && (size == info.SizeBytes || !keptWhole(kind)) {
			delete(gone, info.Name)
		}
		return fn(info)
	})
	if err != nil {
		return err
	}
	for name := range gone {
		b.drop(backend.File{Kind: kind, Name: name}, nil)
	}
	return nil
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	err := b.Backend.Remove(ctx, f)
	if (keptWhole(f.Kind) || f.Kind == backend.Pack) && f.Check() == nil {
		b.drop(f, nil) // also after an error: the file may be gone all the same
	}
	return err
}

// drop removes a file from the cache. When pk is given, it does so only as long as pk is the pack
// that is known: somebody else may have made it anew.
func (b *Backend) drop(f backend.File, pk *pack) {
	if f.Kind == backend.Pack {
		b.mu.Lock()
		current := b.packs[f.Name]
		if pk != nil && current != pk {
			b.mu.Unlock()
			return
		}
		delete(b.packs, f.Name)
		b.mu.Unlock()
	}
	b.disk.remove(f)
}
