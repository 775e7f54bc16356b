package indexdb

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Badger maps its tables into memory. Each page that was read or written counts as memory of the process from then on, up to the size of the
// generation. A trimmer takes them out again: they stay in the system's cache of pages, and come back from there for a microsecond.
const (
	// trimEvery is after how many lookups memory is looked at. Linux maps 16 pages around the one that is read, so
	// that many lookups bring in 16 MiB at most.
	trimEvery = 256
	// trimAbove is how much of files may be in memory. Some 20 MiB of it are the program.
	trimAbove = 40 << 20
)

// trimmer is that of one open generation.
type trimmer struct {
	lookups atomic.Int64
	tables  []mapping
}

// mapping is where a table lies in memory.
type mapping struct{ address, sizeBytes uintptr }

// opening is held while a generation is opened.
var opening sync.Mutex

// watch notes which tables of the generation of that name open maps. This process may have the same generation open already, and
// close that one first; then its addresses become those of something else, which a trim would fill with zeros. So only what is new
// counts, and generations are opened one at a time.
func (t *trimmer) watch(name string, open func() error) error {
	opening.Lock()
	defer opening.Unlock()
	before, err := mappings(name)
	if openErr := open(); openErr != nil || err != nil {
		return openErr
	}
	after, err := mappings(name)
	if err != nil {
		return nil
	}
	t.tables = slices.DeleteFunc(after, func(m mapping) bool { return slices.Contains(before, m) })
	return nil
}

// looked counts a lookup, and trims when it is time. The generation has to stay open meanwhile.
func (t *trimmer) looked() {
	if t.lookups.Add(1)%trimEvery == 0 && mappedBytes() > trimAbove {
		t.trim()
	}
}

// trim takes all pages out of the process's memory, also those that others read just now: they only find them again. The
// generation has to stay open meanwhile, or the addresses would be those of something else.
func (t *trimmer) trim() {
	for _, m := range t.tables {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.address, m.sizeBytes, unix.MADV_DONTNEED)
	}
}

// mappings are those of the tables of all open generations of that name. Where these lie is not asked: the system tells
// it without the symlinks that led us there.
func mappings(name string) (found []mapping, err error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), " (deleted)")
		if !strings.Contains(line, "/"+name+"/") || !strings.HasSuffix(line, ".sst") {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err != nil {
			return nil, err
		}
		found = append(found, mapping{from, to - from})
	}
	return found, lines.Err()
}

// mappedBytes is how much of files is in the process's memory; 0 when that cannot be told.
func mappedBytes() int64 {
	var buf [128]byte
	fd, err := unix.Open("/proc/self/statm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0
	}
	fields := bytes.Fields(buf[:n])
	if len(fields) < 3 {
		return 0
	}
	pages := int64(0)
	for _, digit := range fields[2] {
		pages = pages*10 + int64(digit-'0')
	}
	return pages * int64(os.Getpagesize())
}
