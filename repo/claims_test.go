package repo

import (
	"sync"
	"sync/atomic"
	"testing"

	"vitrine/repo/blob"
)

// Each handle is added once, whoever comes first, and handles that differ in one bit are different.
func TestClaims(t *testing.T) {
	c := newClaims()
	var handles []blob.Handle
	for typ := range 2 {
		base := blob.Handle{Type: blob.Type(typ), ID: blob.Hash([]byte("blob"))}
		handles = append(handles, base)
		for bit := range 8 * len(base.ID) {
			h := base
			h.ID[bit/8] ^= 1 << (bit % 8)
			handles = append(handles, h)
		}
	}
	for _, h := range handles {
		if c.has(h) {
			t.Fatalf("%v is there before it was added", h)
		}
	}
	var added atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, h := range handles {
				if c.add(h) {
					added.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := int(added.Load()); n != len(handles) {
		t.Errorf("%d of %d were new", n, len(handles))
	}
	for _, h := range handles {
		if !c.has(h) {
			t.Errorf("%v is not there", h)
		}
	}
	other := newClaims()
	for _, h := range handles {
		a, b := c.shard(h), other.shard(h)
		if a.buf == b.buf {
			t.Errorf("%v has the same claim in two scopes", h)
		}
		a.mu.Unlock()
		b.mu.Unlock()
	}
}

func BenchmarkClaims(b *testing.B) {
	c := newClaims()
	var h blob.Handle
	for i := 0; b.Loop(); i++ {
		h.ID[0], h.ID[1], h.ID[2] = byte(i), byte(i>>8), byte(i>>16)
		c.has(h)
		c.add(h)
	}
}
