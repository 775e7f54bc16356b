//go:build cgo && amd64

package compress

import (
	"math/rand/v2"
	"syscall"
	"testing"
)

// guarded returns memory of n bytes or more between two pages that must not be touched.
func guarded(t *testing.T, n int) []byte {
	page := syscall.Getpagesize()
	n = (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, n+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	for _, guard := range [][]byte{m[:page], m[page+n:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return m[page : page+n]
}

// TestMatchesTouchesNothingBeyond has frame and content begin and end beside such memory, whole, cut and damaged.
func TestMatchesTouchesNothingBeyond(t *testing.T) {
	if !able {
		return // the decoders of others read a few bytes beyond a frame
	}
	r := rand.New(rand.NewPCG(9, 10))
	const room = 1 << 20 // for the longest sample and its frame
	frameRoom, plainRoom := guarded(t, room+room/64), guarded(t, room)
	place := func(m, p []byte, atEnd bool) []byte {
		at := m[:len(p):len(p)]
		if atEnd {
			at = m[len(m)-len(p):]
		}
		copy(at, p)
		return at
	}
	for name, original := range samples(t) {
		for i, compressed := range frames(t, original) {
			for _, atEnd := range []bool{false, true} {
				frame, plain := place(frameRoom, compressed, atEnd), place(plainRoom, original, atEnd)
				if !Matches(frame, plain) {
					t.Fatalf("%s: frame %d does not match, at the end %v", name, i, atEnd)
				}
				for range 10 {
					at := r.IntN(len(frame))
					frame[at] ^= 1 << r.IntN(8)
					Matches(frame, plain) // may be true, for example with another window
					frame[at] = compressed[at]
					if cut := place(frameRoom, compressed[:at], atEnd); Matches(cut, plain) {
						t.Errorf("%s: %d bytes of %d of frame %d match", name, at, len(frame), i)
					}
					place(frameRoom, compressed, atEnd)
					if at = r.IntN(len(plain)); Matches(frame, plain[at:]) && at > 0 || Matches(frame, plain[:at]) {
						t.Errorf("%s: frame %d matches another length", name, i)
					}
				}
			}
		}
	}
}
