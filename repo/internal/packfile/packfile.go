// Package packfile makes and reads the directory at the end of a pack.
package packfile

import (
	"context"
	"errors"

	"vitrine/repo/blob"
	"vitrine/repo/internal/seal"
)

// MaxHeaderBytes is the longest sealed header that is read or written.
const MaxHeaderBytes = 16 << 20

// ErrCorrupt is wrapped by every error about bytes that are not a pack.
var ErrCorrupt = errors.New("pack is corrupt")

// HeaderBytes returns how many bytes Finish will append for these entries.
func HeaderBytes(entries []blob.Entry) int { panic("not yet") }

// EntryBytes returns how many bytes of HeaderBytes are due to one blob.
func EntryBytes(compressed bool) int { panic("not yet") }

// Finish appends the sealed header and its length to a pack that holds the sealed blobs of entries.
func Finish(pack []byte, entries []blob.Entry, key *seal.Key) []byte { panic("not yet") }

// ParseHeader reads the plain text of a header. Pack is left zero.
func ParseHeader(plain []byte) ([]blob.Entry, error) { panic("not yet") }

// List reads the header of a pack of sizeBytes. readAt must fill p or fail.
func List(ctx context.Context, readAt func(ctx context.Context, p []byte, offsetBytes int64) error, sizeBytes int64, key *seal.Key) ([]blob.Entry, error) {
	panic("not yet")
}
