package archive

import (
	"sync"

	"vitrine/repo/snapshot"
)

// counts is what a part of the backup has done.
type counts struct {
	files, dirs          [3]uint64 // by Change
	bytes                uint64    // of files
	dataBlobs, treeBlobs int64
	addedBytes           uint64 // plain
	addedStoredBytes     uint64
}

// count adds an item that is no directory.
func (c *counts) count(it *Item) {
	if it.Type == snapshot.File {
		c.files[it.Change]++
		c.bytes += it.SizeBytes
	}
	c.addData(it)
}

func (c *counts) addData(it *Item) {
	c.dataBlobs += int64(it.DataBlobs)
	c.addedBytes += it.DataBytes
	c.addedStoredBytes += it.DataStoredBytes
}

func (c *counts) addTree(it *Item) {
	c.treeBlobs += int64(it.TreeBlobs)
	c.addedBytes += it.TreeBytes
	c.addedStoredBytes += it.TreeStoredBytes
}

// total is counts for many goroutines.
type total struct {
	mu  sync.Mutex // guards sum
	sum counts
}

func (t *total) add(c *counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range c.files {
		t.sum.files[i] += c.files[i]
		t.sum.dirs[i] += c.dirs[i]
	}
	t.sum.bytes += c.bytes
	t.sum.dataBlobs += c.dataBlobs
	t.sum.treeBlobs += c.treeBlobs
	t.sum.addedBytes += c.addedBytes
	t.sum.addedStoredBytes += c.addedStoredBytes
}

// summary fills in what restic counts: regular files and directories below the root, and new blobs
// with the root's tree among them.
func (t *total) summary(s *snapshot.Summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.sum
	s.FilesNew, s.FilesChanged, s.FilesUnmodified = c.files[New], c.files[Changed], c.files[Unmodified]
	s.DirsNew, s.DirsChanged, s.DirsUnmodified = c.dirs[New], c.dirs[Changed], c.dirs[Unmodified]
	s.DataBlobs, s.TreeBlobs = c.dataBlobs, c.treeBlobs
	s.DataAdded, s.DataAddedPacked = c.addedBytes, c.addedStoredBytes
	s.TotalFilesProcessed = c.files[New] + c.files[Changed] + c.files[Unmodified]
	s.TotalBytesProcessed = c.bytes
}
