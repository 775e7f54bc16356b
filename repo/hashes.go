package repo

import (
	"vitrine/repo/blob"
	"vitrine/repo/internal/sha256many"
)

// HashesMost is how many blobs Hashes takes at a time. Where it is more than a few, each takes much less time
// beside so many others than alone.
func HashesMost() int { return sha256many.Width() }

// Hashes makes the IDs of plain bytes that come one after the other, for Writer.SaveHashed, each beside those before or
// behind it. The zero value has none under way. It is for one goroutine at a time.
type Hashes struct{ lanes sha256many.Lanes }

// Free reports whether there is room for more.
func (h *Hashes) Free() bool { return h.lanes.Free() }

// Empty reports whether nothing is under way.
func (h *Hashes) Empty() bool { return h.lanes.Empty() }

// Begin takes plain bytes, which must not change before End has returned their name. There must be room.
func (h *Hashes) Begin(name int, plain []byte) { h.lanes.Begin(name, plain) }

// End returns the name and the ID of those that are done first. There must be some.
func (h *Hashes) End() (name int, id blob.ID) { return h.lanes.End() }
