// Package scrypt derives keys from passwords, RFC 7914, in less time than golang.org/x/crypto/scrypt: the
// p parts of a derivation do not depend on each other, so they are worked on in parallel, and
// on amd64 the Salsa20 core works on four words at a time. Every command waits for this before it does
// anything else. Elsewhere x/crypto does the work.
//
// It makes a password no easier to guess: who guesses has many to try in parallel anyway.
package scrypt

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/scrypt"
)

// memoryBytes bounds the memory of the parts that are worked on at a time, unless one alone takes more.
const memoryBytes = 64 << 20

// blockWords is what the core works on: 64 bytes.
const blockWords = 16

// Key returns keyBytes bytes. N is a power of two above 1, r and p are positive, and N·r and r·p so small that
// the memory can be had; the caller has checked all that. Memory is 128·N·r bytes, or
// up to 64 MiB when that is more and several processors can share the work.
func Key(password, salt []byte, n, r, p, keyBytes int) ([]byte, error) {
	if !accelerated {
		return scrypt.Key(password, salt, n, r, p, keyBytes)
	}
	partBytes := 128 * r
	parts, err := pbkdf2.Key(sha256.New, string(password), salt, 1, p*partBytes)
	if err != nil {
		return nil, err
	}
	var next atomic.Int64 // part to be taken
	var group sync.WaitGroup
	for range min(p, runtime.GOMAXPROCS(0), max(1, memoryBytes/n/partBytes)) {
		group.Go(func() {
			m := newMixer(n, r)
			defer m.free()
			for i := int(next.Add(1)) - 1; i < p; i = int(next.Add(1)) - 1 {
				m.mix(parts[i*partBytes:][:partBytes])
			}
		})
	}
	group.Wait()
	return pbkdf2.Key(sha256.New, string(password), parts, 1, keyBytes)
}

// mixer is ROMix of the standard, with its memory.
type mixer struct {
	n, r int
	rows []uint32 // n of 2·r blocks each
	x, y []uint32 // one row each
	free func()   // to be called at the end
}

func newMixer(n, r int) *mixer {
	row := 2 * r * blockWords
	m := &mixer{n: n, r: r, x: make([]uint32, row), y: make([]uint32, row)}
	m.rows, m.free = words(n * row)
	return m
}

// word tells which word of a block is in place k: the core wants the diagonals of the 4 by 4 matrix side by
// side.
func word(k int) int { return (5*(k%4) + 4*(k/4)) % blockWords }

// mix replaces a part of 128·r bytes.
func (m *mixer) mix(part []byte) {
	row := len(m.x)
	first := m.rows[:row]
	for i := range first {
		at := i&^(blockWords-1) + word(i%blockWords)
		first[i] = binary.LittleEndian.Uint32(part[4*at:])
	}
	for i := range m.n - 1 {
		blockMix(&m.rows[(i+1)*row], &m.rows[i*row], m.r)
	}
	x, y := m.x, m.y
	blockMix(&x[0], &m.rows[(m.n-1)*row], m.r)
	for range m.n {
		// The first word of the last block. n is a power of two, and less than 1<<32.
		j := int(x[row-blockWords]) & (m.n - 1)
		blockMixXOR(&y[0], &x[0], &m.rows[j*row], m.r)
		x, y = y, x
	}
	for i, w := range x {
		at := i&^(blockWords-1) + word(i%blockWords)
		binary.LittleEndian.PutUint32(part[4*at:], w)
	}
}
