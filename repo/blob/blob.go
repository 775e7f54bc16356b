// Package blob holds the words every other package speaks: the identity of a blob
// (ID, Type, Handle) and where it is stored (Location). It has no I/O and imports
// nothing of vitrine.
//
// Format: FORMAT.md is restic's repository format; an ID is a SHA-256 digest, written as
// 64 lower-case hexadecimal digits.
package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// ID is the SHA-256 of a blob's plain bytes, or of a repository file's stored bytes.
type ID [sha256.Size]byte

// Hash returns the ID of the given bytes.
func Hash(p []byte) ID { return sha256.Sum256(p) }

// ParseID reads 64 lower-case hexadecimal digits; anything else is an error.
func ParseID(s string) (ID, error) {
	var id ID
	err := id.UnmarshalText([]byte(s))
	return id, err
}

// String returns the 64 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hexadecimal digits, for people.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero reports whether the ID was never set.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs by their bytes, as bytes.Compare does.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText implements encoding.TextMarshaler: 64 hexadecimal digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Upper-case digits are refused,
// because a name that differs in case is a different file.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("id %.80q: want %d hexadecimal digits, have %d characters", text, 2*len(id), len(text))
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("id %q: %q is not a lower-case hexadecimal digit", text, c)
		}
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Type is the namespace of a blob: the same bytes may exist once as Data and once as Tree.
type Type uint8

// The two types of blob. The numbers are those of the pack header.
const (
	Data Type = 0 // a chunk of a file
	Tree Type = 1 // a directory listing in JSON
)

// String returns "data" or "tree", the words of the index files.
func (t Type) String() string {
	switch t {
	case Data:
		return "data"
	case Tree:
		return "tree"
	}
	return fmt.Sprintf("type-%d", uint8(t))
}

// Handle names one blob.
type Handle struct {
	Type Type
	ID   ID
}

// String returns "tree/1f2e3d4c", with the short ID.
func (h Handle) String() string { return h.Type.String() + "/" + h.ID.Short() }

// SealOverheadBytes is what sealing adds to every blob and file: 16 bytes IV, 16 bytes MAC.
const SealOverheadBytes = 32

// Location says where a blob is stored.
type Location struct {
	Pack        ID     // the pack file
	OffsetBytes uint32 // of the sealed blob in the pack
	LengthBytes uint32 // of the sealed blob, with SealOverheadBytes
	PlainBytes  uint32 // after decompression; 0 when the blob is stored uncompressed
}

// Compressed reports whether the sealed bytes are a zstd frame.
func (l Location) Compressed() bool { return l.PlainBytes != 0 }

// Size returns the plain length of the blob in bytes.
func (l Location) Size() uint32 {
	if l.PlainBytes != 0 {
		return l.PlainBytes
	}
	if l.LengthBytes < SealOverheadBytes {
		return 0
	}
	return l.LengthBytes - SealOverheadBytes
}

// Entry is a line of a pack header or of an index file.
type Entry struct {
	Handle
	Location
}
