// Package claims is the set of blobs that a run has stored, or is storing, so that each is stored once.
//
// There is one for each new blob of a backup, and all stay until its end: some in memory, the others on disk (package
// spill). Of a blob the set holds the MAC of its ID under a random key, 16 bytes, that never leaves the process; what is on
// disk tells nobody anything. That two of n blobs have one MAC, so that one is not stored, happens by chance once in 2^128/n²
// runs, and by intent only to somebody who has the key.
package claims

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"log/slog"
	"sync"

	"vitrine/repo/blob"
	"vitrine/repo/spill"
)

const (
	// shards of each type of blobs have locks of their own.
	shards = 16
	// recentMost is how many blobs of a shard stay in memory: some 5 MiB of all data blobs.
	recentMost = 8192
	// reserveBytes are left free on the disk.
	reserveBytes = 16 << 20
)

// Set is the set. Its methods may be called in parallel.
type Set struct {
	mac    cipher.Block
	shards [2][shards]shard // by blob.Type, and by ID
	most   int              // recentMost; tests replace it
	disk   disk
}

// New returns an empty set, which takes the directory of its file from scratch when it gets large. nil, or an error, leaves all in memory.
func New(scratch func() (dir string, err error), log *slog.Logger) *Set {
	var key [16]byte
	rand.Read(key[:])
	mac, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has one of the lengths that there are
	}
	s := &Set{mac: mac, most: recentMost, disk: disk{scratch: scratch, log: log, reserveBytes: reserveBytes}}
	for t := range s.shards {
		for i := range s.shards[t] {
			s.shards[t][i].recent = make(map[claim]struct{})
		}
	}
	return s
}

// claim is the CBC-MAC of an ID, which has two blocks.
type claim [spill.KeyBytes]byte

// shard is a part of the set.
type shard struct {
	mu     sync.Mutex // guards the rest; held while a page is read and runs are written, by one caller in sixteen at a time
	recent map[claim]struct{}
	again  int    // the disk was of no use: it is tried again when so many are in memory
	older  *older // nil while all are in memory
	buf    claim
}

// lock locks and returns the shard of h, with its claim in buf.
func (s *Set) lock(h blob.Handle) *shard {
	sh := &s.shards[h.Type][h.ID[0]%shards]
	sh.mu.Lock()
	copy(sh.buf[:], h.ID[:]) // only what is here already may be handed to an interface, or h would need memory of its own
	s.mac.Encrypt(sh.buf[:], sh.buf[:])
	subtle.XORBytes(sh.buf[:], sh.buf[:], h.ID[aes.BlockSize:])
	s.mac.Encrypt(sh.buf[:], sh.buf[:])
	return sh
}

// Has reports whether h is there.
func (s *Set) Has(h blob.Handle) bool {
	sh := s.lock(h)
	defer sh.mu.Unlock()
	return sh.has(&s.disk)
}

// Add reports whether h was not there.
func (s *Set) Add(h blob.Handle) bool {
	sh := s.lock(h)
	defer sh.mu.Unlock()
	if sh.has(&s.disk) {
		return false
	}
	sh.recent[sh.buf] = struct{}{}
	if len(sh.recent) >= max(s.most, sh.again) {
		sh.spill(&s.disk)
	}
	return true
}

// Close removes what is on disk. No call may follow it.
func (s *Set) Close() { s.disk.close() }

// has needs the claim in buf.
func (sh *shard) has(d *disk) bool {
	if _, ok := sh.recent[sh.buf]; ok {
		return true
	}
	return sh.older != nil && sh.older.has(&sh.buf, d)
}
