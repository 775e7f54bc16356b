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

// place copies p to the beginning or the end of m, and returns it there.
func place(m, p []byte, atEnd bool) []byte {
	at := m[:len(p):len(p)]
	if atEnd {
		at = m[len(m)-len(p):]
	}
	copy(at, p)
	return at
}

// TestMatchesTouchesNothingBeyond has frame and content begin and end beside such memory, whole, cut and damaged.
func TestMatchesTouchesNothingBeyond(t *testing.T) { eachDecoder(t, testMatchesTouchesNothingBeyond) }

func testMatchesTouchesNothingBeyond(t *testing.T) {
	if !able {
		t.Log("not tested: this processor has no decoder of ours")
		return
	}
	r := rand.New(rand.NewPCG(9, 10))
	const room = 3 << 20 // for the longest sample and its frame
	frameRoom, plainRoom := guarded(t, room+room/64), guarded(t, room)
	for name, sample := range samples() {
		original := sample.plain
		for i, compressed := range sample.frames {
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

// What matches after a bit is flipped is the content to the other decoder too.
func TestMatchesNoDamage(t *testing.T) { eachDecoder(t, testMatchesNoDamage) }

func testMatchesNoDamage(t *testing.T) {
	if !able {
		t.Log("not tested: this processor has no decoder of ours")
		return
	}
	matched := 0
	for _, name := range []string{"line", "page", "start of 141", "few", "copies"} {
		plain := samples()[name].plain
		for i, frame := range samples()[name].frames {
			step := max(1, len(frame)*8/1000)
			for bit := 0; bit < len(frame)*8; bit += step {
				frame[bit/8] ^= 1 << (bit % 8)
				if Matches(frame, plain) {
					matched++
					if !libraryMatches(frame, plain) {
						t.Errorf("%s: frame %d: bit %d is flipped and the frame matches", name, i, bit)
					}
				}
				frame[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
	t.Log(matched, "frames match in spite of a flipped bit") // for example in the size of a window
}

// TestContentTouchesNothingBeyond is that for the decoder of several blocks, which writes, too. What it makes of damaged frames is what the
// other decoder makes.
func TestContentTouchesNothingBeyond(t *testing.T) {
	if !wide {
		t.Log("not tested: this processor has no decoder of several blocks")
		return
	}
	r := rand.New(rand.NewPCG(11, 12))
	const room = 3 << 20 // for the longest sample and its frame
	frameRoom, plainRoom := guarded(t, room+room/64), guarded(t, room)
	refused, other := 0, 0
	for name, sample := range samples() {
		original := sample.plain
		if len(original) < wideLeast {
			continue
		}
		for i, compressed := range sample.frames {
			for _, atEnd := range []bool{false, true} {
				frame, plain := place(frameRoom, compressed, atEnd), place(plainRoom, make([]byte, len(original)), atEnd)
				if !contentInto(plain, frame) || differ(plain, original) >= 0 {
					t.Fatalf("%s: frame %d is not decoded, at the end %v", name, i, atEnd)
				}
				for range 20 {
					at := r.IntN(len(frame))
					if r.IntN(2) == 0 {
						at = r.IntN(min(len(frame), 300)) // headers and tables
					}
					frame[at] ^= 1 << r.IntN(8)
					if !contentInto(plain, frame) {
						refused++
					} else if differ(plain, original) >= 0 {
						if other++; !libraryMatches(frame, plain) {
							t.Errorf("%s: frame %d: byte %d is damaged, and another decoder makes other content", name, i, at)
						}
					}
					frame[at] = compressed[at]
				}
			}
		}
	}
	t.Log(refused, "damaged frames are refused,", other, "have other content")
	if refused == 0 || other == 0 {
		t.Error("that shows little")
	}
}
