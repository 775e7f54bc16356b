// Package indexfile makes and reads the JSON of index files, which say in what pack each blob is
// stored:
//
//	{"packs":[{"id":…,"blobs":[{"id":…,"type":"data"|"tree","offset":n,"length":n,"uncompressed_length":n},…]},…]}
//
// Ids are strings of 64 lower-case hexadecimal digits, numbers fit 32 bits. The last field is
// absent from blobs that are stored uncompressed. Any other field, at any level, is ignored;
// old clients wrote "supersedes".
package indexfile

import (
	"encoding/hex"
	"errors"
	"slices"
	"strconv"

	"vitrine/repo/blob"
)

// ErrCorrupt is wrapped by every error of Decode that does not come from its callback.
var ErrCorrupt = errors.New("index file is corrupt")

// Pack is one pack and what it holds.
type Pack struct {
	ID    blob.ID
	Blobs []blob.Entry // their Pack field is not looked at
}

// entryBytes is about the length of one blob in JSON.
const entryBytes = 160

// Append appends the JSON of an index file to dst.
func Append(dst []byte, packs []Pack) []byte {
	n := 16
	for i := range packs {
		n += entryBytes * (1 + len(packs[i].Blobs))
	}
	dst = slices.Grow(dst, n)
	dst = append(dst, `{"packs":[`...)
	for i := range packs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":"`...)
		dst = hex.AppendEncode(dst, packs[i].ID[:])
		dst = append(dst, `","blobs":[`...)
		for j := range packs[i].Blobs {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = appendBlob(dst, &packs[i].Blobs[j])
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, `]}`...)
}

func appendBlob(dst []byte, e *blob.Entry) []byte {
	dst = append(dst, `{"id":"`...)
	dst = hex.AppendEncode(dst, e.ID[:])
	dst = append(dst, `","type":"`...)
	dst = append(dst, e.Type.String()...)
	dst = append(dst, `","offset":`...)
	dst = strconv.AppendUint(dst, uint64(e.OffsetBytes), 10)
	dst = append(dst, `,"length":`...)
	dst = strconv.AppendUint(dst, uint64(e.LengthBytes), 10)
	if e.Compressed() {
		dst = append(dst, `,"uncompressed_length":`...)
		dst = strconv.AppendUint(dst, uint64(e.PlainBytes), 10)
	}
	return append(dst, '}')
}
