package repo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"sync"

	"vitrine/repo/blob"
)

// claims is the set of blobs that a write scope has stored or is storing. There is one for each new blob of a backup, and all stay
// until its end, so it holds 16 bytes of each instead of the 33 of a handle: the MAC of the ID under a random key of the scope. That two
// of n blobs have one MAC, so that one is not stored, happens by chance once in 2^128/n² scopes, and by intent
// only to somebody who has the key. Its methods may be called in parallel.
type claims struct {
	mac    cipher.Block
	shards [2][32]claimShard // by blob.Type, and by ID
}

type claimShard struct {
	mu  sync.Mutex // guards the rest
	set map[claim]struct{}
	buf claim
}

// claim is the CBC-MAC of an ID, which has two blocks.
type claim [aes.BlockSize]byte

func newClaims() *claims {
	var key [16]byte
	rand.Read(key[:])
	mac, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has one of the lengths that there are
	}
	c := &claims{mac: mac}
	for t := range c.shards {
		for i := range c.shards[t] {
			c.shards[t][i].set = make(map[claim]struct{})
		}
	}
	return c
}

// shard locks and returns the shard of h, with its claim in buf.
func (c *claims) shard(h blob.Handle) *claimShard {
	s := &c.shards[h.Type][h.ID[0]%32]
	s.mu.Lock()
	copy(s.buf[:], h.ID[:]) // only what is here already may be handed to an interface, or h would need memory of its own
	c.mac.Encrypt(s.buf[:], s.buf[:])
	subtle.XORBytes(s.buf[:], s.buf[:], h.ID[aes.BlockSize:])
	c.mac.Encrypt(s.buf[:], s.buf[:])
	return s
}

func (c *claims) has(h blob.Handle) bool {
	s := c.shard(h)
	defer s.mu.Unlock()
	_, ok := s.set[s.buf]
	return ok
}

// add reports whether h was not there.
func (c *claims) add(h blob.Handle) bool {
	s := c.shard(h)
	defer s.mu.Unlock()
	if _, ok := s.set[s.buf]; ok {
		return false
	}
	s.set[s.buf] = struct{}{}
	return true
}
