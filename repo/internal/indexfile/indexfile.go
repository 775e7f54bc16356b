// Package indexfile makes and reads the JSON of index files.
package indexfile

import (
	"errors"

	"vitrine/repo/blob"
)

// ErrCorrupt is wrapped by every error of Decode that does not come from its callback.
var ErrCorrupt = errors.New("index is corrupt")

// Pack is one pack and what it holds.
type Pack struct {
	ID    blob.ID
	Blobs []blob.Entry // their Pack field is not looked at
}

// Append appends the JSON of an index file to dst.
func Append(dst []byte, packs []Pack) []byte { panic("not yet") }

// Decode calls fn for every blob of the index file p, with Pack set. An error of fn ends it and is returned as it is.
func Decode(p []byte, fn func(blob.Entry) error) error { panic("not yet") }
