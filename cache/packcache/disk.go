package packcache

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// tempPrefix begins the names of files that are being written.
const tempPrefix = "tmp-"

// tempAge is how old such a file is when whoever wrote it is surely gone.
const tempAge = time.Hour

// maxBudgetBytes bounds defaultBudget.
const maxBudgetBytes = 5 << 30

// defaultBudget is a tenth of what would be free on the disk without the cache, at most 5 GiB.
// Both figures are in bytes.
func defaultBudget(freeBytes, cachedBytes int64) int64 {
	return min(maxBudgetBytes, (freeBytes+cachedBytes)/10)
}

// disk is the directory.
type disk struct {
	dir string
	log *slog.Logger

	troubled sync.Map // what has been logged: a word for it

	room     sync.Mutex // held while room is made; taken before mu
	mu       sync.Mutex // guards what follows; held across the one scan that measures
	measured bool
	budget   int64 // 0 until measured: to be chosen
	total    int64 // bytes of all files, as far as this process knows
	added    int64 // bytes that this process published since total was counted
}

// path returns the place of a file.
func (d *disk) path(f backend.File) string { return filepath.Join(d.dir, f.Kind.Dir(), f.Name) }

// trouble logs what is wrong with the cache, once for each thing that was tried.
func (d *disk) trouble(doing string, err error) {
	if _, again := d.troubled.LoadOrStore(doing, true); !again {
		d.log.Debug("trouble with the cache of packs; the store is asked instead", "doing", doing, "error", err)
	}
}

// largest returns the size in bytes of the largest file that may be kept.
func (d *disk) largest() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.measureLocked()
	return min(maxFileBytes, d.budget/4)
}

// measureLocked counts what is there and chooses a budget, the first time.
func (d *disk) measureLocked() {
	if d.measured {
		return
	}
	d.measured = true
	_, d.total = d.scan()
	if d.budget == 0 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &st); err == nil {
			d.budget = defaultBudget(int64(st.Bavail)*int64(st.Bsize), d.total)
		}
	}
}

// load returns the content of a file, in a fresh buffer, if it is there and what its name says.
func (d *disk) load(f backend.File, maxBytes int64) ([]byte, bool) {
	path := d.path(f)
	content, err := readWhole(path, min(maxBytes, maxFileBytes))
	if err == nil && blob.Hash(content).String() == f.Name {
		return content, true
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backend.ErrTooBig) {
		return nil, false
	}
	d.trouble("read", cmp.Or(err, error(errDamaged)))
	d.remove(f)
	return nil, false
}

// readWhole reads a file and renews its date when that is due.
func readWhole(path string, maxBytes int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > maxBytes {
		return nil, backend.ErrTooBig
	}
	content := make([]byte, st.Size())
	if _, err := io.ReadFull(file, content); err != nil {
		return nil, err
	}
	if now := time.Now(); now.Sub(st.ModTime()) >= touchEvery {
		_ = os.Chtimes(path, now, now) // it may have vanished meanwhile
	}
	return content, nil
}

// publish makes a file whose content was compared with its name.
func (d *disk) publish(f backend.File, content []byte) error {
	path := d.path(f)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(d.dir, tempPrefix) // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	d.account(int64(len(content)))
	return nil
}

// account counts a new file, and makes room when too much is there. Since other processes add
// files too, what is there is counted again from time to time.
func (d *disk) account(sizeBytes int64) {
	d.mu.Lock()
	d.measureLocked()
	d.total += sizeBytes
	d.added += sizeBytes
	due := d.total > d.budget || d.added > d.budget/16
	d.mu.Unlock()
	if due {
		d.makeRoom()
	}
}

// makeRoom removes what was not used for the longest time, down to nine tenths of the budget. While
// somebody else does so it does nothing.
func (d *disk) makeRoom() {
	if !d.room.TryLock() {
		return
	}
	defer d.room.Unlock()
	lock, err := os.OpenFile(filepath.Join(d.dir, "evict.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		defer lock.Close() // which unlocks
		if errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
			return
		}
	} // without a lock two may remove more than needed, no more than that
	files, total := d.scan()
	d.mu.Lock()
	budget := d.budget
	d.mu.Unlock()
	if total > budget {
		slices.SortFunc(files, func(a, b entry) int { return a.used.Compare(b.used) })
		for _, e := range files {
			if total <= budget/10*9 {
				break
			}
			if err := os.Remove(e.path); err == nil || errors.Is(err, fs.ErrNotExist) {
				total -= e.sizeBytes
			}
		}
	}
	d.mu.Lock()
	d.total, d.added = total, 0
	d.mu.Unlock()
}

// entry is one file.
type entry struct {
	path      string
	sizeBytes int64
	used      time.Time
}

// scan lists the files, with the sum of their sizes in bytes, and removes what interrupted writers left.
func (d *disk) scan() (files []entry, totalBytes int64) {
	for _, dir := range []string{"", backend.Pack.Dir(), backend.Index.Dir(), backend.Snapshot.Dir()} {
		list, err := os.ReadDir(filepath.Join(d.dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.trouble("list", err)
		}
		for _, e := range list {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue // it vanished, or is none of ours
			}
			path := filepath.Join(d.dir, dir, e.Name())
			if dir == "" {
				if strings.HasPrefix(e.Name(), tempPrefix) && time.Since(info.ModTime()) > tempAge {
					d.removePath(path)
				}
				continue
			}
			files = append(files, entry{path, info.Size(), info.ModTime()})
			totalBytes += info.Size()
		}
	}
	return files, totalBytes
}

// sizes lists the files of a kind with their sizes in bytes.
func (d *disk) sizes(kind backend.Kind) map[string]int64 {
	list, err := os.ReadDir(filepath.Join(d.dir, kind.Dir()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.trouble("list", err)
	}
	sizes := make(map[string]int64, len(list))
	for _, e := range list {
		if info, err := e.Info(); err == nil { // else it is gone already
			sizes[e.Name()] = info.Size()
		}
	}
	return sizes
}

// remove deletes a file; that it is gone already is no trouble.
func (d *disk) remove(f backend.File) { d.removePath(d.path(f)) }

func (d *disk) removePath(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.trouble("remove", err)
	}
}
