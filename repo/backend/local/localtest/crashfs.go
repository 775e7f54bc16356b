// Package localtest has a file system in memory that can lose power. It keeps two views of
// everything: what a running program sees, and what is durable because it was synced. File contents
// and directory entries are durable separately, as POSIX allows and real disks do:
//
//	what                     is durable after
//	bytes of a file          Sync of that file
//	a name in a directory    SyncDir of that directory (creation, removal and rename alike)
//
// Every changing call is counted and kept in a journal. A test runs its work once, then asks for
// the disk as it would be after a power loss behind each call:
//
//	disk := localtest.NewCrashFS()
//	be, err := local.CreateFS(disk, "/repo")
//	… work, noting disk.Ops() whenever something is promised to be durable …
//	for i := range disk.Ops() + 1 {
//		for _, loss := range localtest.Losses {
//			be, err := local.OpenFS(disk.After(i, loss), "/repo")
//			… whatever was promised at or before call i must be there …
//		}
//	}
//
// After replays the journal, so the work itself may run in parallel.
package localtest

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"syscall"

	"vitrine/repo/backend/local"
)

// Loss is what a power loss takes of that which was not synced.
type Loss struct {
	name string
	seed uint64 // of Torn
}

// The losses. LoseAll is the plain one; KeepNames catches a rename before the fsync of the file,
// LoseAll a missing fsync of the directory; Torn mixes: each name and each tail of a file
// survives or not by chance, and a lost tail may leave zeros.
var (
	LoseAll   = Loss{name: "lose all"}
	KeepNames = Loss{name: "keep names"}
)

// Torn returns a loss by chance that depends on the seed only.
func Torn(seed uint64) Loss { return Loss{name: "torn", seed: seed} }

// Losses is a choice for tests that try them all.
var Losses = []Loss{LoseAll, KeepNames, Torn(1), Torn(2), Torn(3)}

// String names the loss in messages.
func (l Loss) String() string {
	if l.name == "torn" {
		return fmt.Sprintf("torn %d", l.seed)
	}
	return l.name
}

// Op is one changing call.
type Op struct {
	Call string // "create", "write", "sync", "close", "mkdir", "rename", "remove", "syncdir"
	Name string
	To   string // of a rename

	mode    fs.FileMode
	handle  int // number of the create whose file is written, synced or closed
	content []byte
}

// String is the call in one line.
func (o Op) String() string {
	s := o.Call + " " + o.Name
	if o.Call == "rename" {
		s += " " + o.To
	}
	return s
}

// CrashFS is a local.FS in memory that can lose power.
type CrashFS struct {
	mu      sync.Mutex     // guards all below
	now     *disk          // what programs see
	base    *disk          // the disk before the journal; nil while the journal is empty
	journal []Op           // successful changing calls
	fail    func(Op) error // see SetFault

	replayed    *disk // the disk after the first replayedOps calls, to replay each call once only
	replayedOps int
}

var _ local.FS = (*CrashFS)(nil)

// NewCrashFS returns a file system with a durable, empty root directory.
func NewCrashFS() *CrashFS { return &CrashFS{now: newDisk()} }

// SetFault makes every changing call ask fail first, and fail with its error instead of being
// done when it is not nil. fail must not call back. A nil fail ends it.
func (c *CrashFS) SetFault(fail func(Op) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

// Ops returns the number of changing calls that succeeded so far.
func (c *CrashFS) Ops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.journal)
}

// Trace returns those calls.
func (c *CrashFS) Trace() []Op {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Op(nil), c.journal...)
}

// After returns the disk as it is found after a power loss behind the first n changing calls, all
// of it durable. The receiver stays as it is.
func (c *CrashFS) After(n int, loss Loss) *CrashFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	rng := rand.New(rand.NewPCG(loss.seed, uint64(n)))
	if len(c.journal) == 0 {
		return &CrashFS{now: c.now.clone()}
	}
	if c.replayed == nil || c.replayedOps > n {
		c.replayed, c.replayedOps = c.base.clone(), 0
	}
	for _, op := range c.journal[c.replayedOps:n] {
		if err := c.replayed.apply(op); err != nil {
			panic(fmt.Sprintf("replay of %v: %v", op, err)) // it succeeded before
		}
	}
	c.replayedOps = n
	return &CrashFS{now: &disk{root: survive(c.replayed.root, loss, rng, map[*inode]*inode{})}}
}

// do applies a changing call and journals it.
func (c *CrashFS) do(op Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doLocked(op)
}

func (c *CrashFS) doLocked(op Op) error {
	var err error
	if c.fail != nil {
		err = c.fail(op)
	}
	if err == nil && c.base == nil {
		c.base = c.now.clone() // all of it is durable as yet
	}
	if err == nil {
		err = c.now.apply(op)
	}
	if err != nil {
		return &fs.PathError{Op: op.Call, Path: op.Name, Err: err}
	}
	c.journal = append(c.journal, op)
	return nil
}

// Create implements local.FS.
func (c *CrashFS) Create(name string, mode fs.FileMode) (local.WriteFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	op := Op{Call: "create", Name: path.Clean(name), mode: mode, handle: len(c.journal)}
	if err := c.doLocked(op); err != nil {
		return nil, err
	}
	return &writeFile{c, op.Name, op.handle}, nil
}

// Mkdir implements local.FS.
func (c *CrashFS) Mkdir(name string, mode fs.FileMode) error {
	return c.do(Op{Call: "mkdir", Name: path.Clean(name), mode: mode})
}

// Rename implements local.FS.
func (c *CrashFS) Rename(from, to string, replace bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.now.find(path.Clean(to)); err == nil && !replace {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	return c.doLocked(Op{Call: "rename", Name: path.Clean(from), To: path.Clean(to)})
}

// Remove implements local.FS.
func (c *CrashFS) Remove(name string) error { return c.do(Op{Call: "remove", Name: path.Clean(name)}) }

// SyncDir implements local.FS.
func (c *CrashFS) SyncDir(name string) error {
	return c.do(Op{Call: "syncdir", Name: path.Clean(name)})
}

// Open implements local.FS.
func (c *CrashFS) Open(name string) (local.ReadFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	node, err := c.now.find(path.Clean(name))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &readFile{c, node, path.Base(name)}, nil
}

// Stat implements local.FS.
func (c *CrashFS) Stat(name string) (fs.FileInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	node, err := c.now.find(path.Clean(name))
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return node.info(path.Base(name)), nil
}

// ReadDir implements local.FS.
func (c *CrashFS) ReadDir(name string) ([]fs.DirEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	node, err := c.now.find(path.Clean(name))
	if err == nil && node.entries == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	var entries []fs.DirEntry
	for name, child := range node.entries {
		entries = append(entries, fs.FileInfoToDirEntry(child.info(name)))
	}
	return entries, nil
}

type writeFile struct {
	c      *CrashFS
	name   string
	handle int
}

func (w *writeFile) Write(p []byte) (int, error) {
	op := Op{Call: "write", Name: w.name, handle: w.handle, content: append([]byte(nil), p...)}
	if err := w.c.do(op); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *writeFile) Sync() error {
	return w.c.do(Op{Call: "sync", Name: w.name, handle: w.handle})
}

func (w *writeFile) Close() error {
	return w.c.do(Op{Call: "close", Name: w.name, handle: w.handle})
}

type readFile struct {
	c    *CrashFS
	node *inode
	name string
}

func (r *readFile) ReadAt(p []byte, offsetBytes int64) (int, error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.node.entries != nil {
		return 0, &fs.PathError{Op: "read", Path: r.name, Err: syscall.EISDIR}
	}
	if offsetBytes > int64(len(r.node.content)) {
		return 0, io.EOF
	}
	n := copy(p, r.node.content[offsetBytes:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *readFile) Stat() (fs.FileInfo, error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.node.info(r.name), nil
}

func (r *readFile) Close() error { return nil }
