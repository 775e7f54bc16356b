package indexdb

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Badger maps its tables into memory. Each page that was read counts as memory of the process from then on, up to the size of the
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
	dir     string
	lookups atomic.Int64
	once    sync.Once
	tables  [][2]uintptr // address and length of each mapping
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
	t.once.Do(func() { t.tables = mappings(t.dir) })
	for _, m := range t.tables {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m[0], m[1], unix.MADV_DONTNEED)
	}
}

// mappings are those of the tables below a directory.
func mappings(dir string) (found [][2]uintptr) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		at := strings.Index(line, dir+"/")
		if at < 0 || !strings.HasSuffix(strings.TrimSuffix(line[at:], " (deleted)"), ".sst") {
			continue
		}
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			found = append(found, [2]uintptr{from, to - from})
		}
	}
	return found
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
