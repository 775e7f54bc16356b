// Package snapshot holds snapshots, trees and nodes, and their canonical JSON: equal
// directories give equal bytes, also when another client of the format wrote them. It
// does no I/O.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vitrine/repo/blob"
)

// Snapshot says what was backed up, when, and where its root tree is. The order of the
// fields is that of its JSON.
type Snapshot struct {
	Time           time.Time `json:"time"`
	Parent         *blob.ID  `json:"parent,omitempty"`
	Tree           *blob.ID  `json:"tree"`
	Paths          []string  `json:"paths"`
	Hostname       string    `json:"hostname,omitempty"`
	Username       string    `json:"username,omitempty"`
	UID            uint32    `json:"uid,omitempty"`
	GID            uint32    `json:"gid,omitempty"`
	Excludes       []string  `json:"excludes,omitempty"`
	Tags           []string  `json:"tags,omitempty"`
	Original       *blob.ID  `json:"original,omitempty"`
	ProgramVersion string    `json:"program_version,omitempty"`
	Summary        *Summary  `json:"summary,omitempty"`

	ID blob.ID `json:"-"` // name of the file it was read from
}

// Summary is what the backup counted.
type Summary struct {
	BackupStart         time.Time `json:"backup_start"`
	BackupEnd           time.Time `json:"backup_end"`
	FilesNew            uint64    `json:"files_new"`
	FilesChanged        uint64    `json:"files_changed"`
	FilesUnmodified     uint64    `json:"files_unmodified"`
	DirsNew             uint64    `json:"dirs_new"`
	DirsChanged         uint64    `json:"dirs_changed"`
	DirsUnmodified      uint64    `json:"dirs_unmodified"`
	DataBlobs           int64     `json:"data_blobs"`
	TreeBlobs           int64     `json:"tree_blobs"`
	DataAdded           uint64    `json:"data_added"`        // bytes, plain
	DataAddedPacked     uint64    `json:"data_added_packed"` // bytes, as stored
	TotalFilesProcessed uint64    `json:"total_files_processed"`
	TotalBytesProcessed uint64    `json:"total_bytes_processed"`
}

// Encode returns the JSON of s. Times are written in the zone they carry, tags and paths
// in the order they have.
func (s *Snapshot) Encode() ([]byte, error) {
	if s.Tree == nil {
		return nil, errors.New("encode snapshot: no tree")
	}
	p, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	return p, nil
}

// Decode reads the JSON of a snapshot; the caller sets the ID. Unknown fields are ignored,
// a snapshot without a tree is ErrCorrupt, as is anything that is not such JSON.
func Decode(p []byte) (*Snapshot, error) {
	s := new(Snapshot)
	if err := json.Unmarshal(p, s); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w: %w", ErrCorrupt, err)
	}
	if s.Tree == nil {
		return nil, fmt.Errorf("decode snapshot: %w: no tree", ErrCorrupt)
	}
	return s, nil
}
