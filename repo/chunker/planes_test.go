package chunker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
)

const (
	unitBytes       = 64 * 64        // the shortest block of skipPlanes: 64 streams of a row
	planeBlockBytes = 15 * unitBytes // the longest one
)

// sameScan checks each fast scan of this machine against the plain one.
func sameScan(t *testing.T, c *Chunker, p []byte, from int) {
	t.Helper()
	want := c.scan(p, from)
	if got := c.scanStreams(p, from); got != want {
		t.Errorf("polynomial %v: streams over %d bytes from %d: cut %d, want %d", c.pol, len(p), from, got, want)
	}
	if !planesWork {
		return
	}
	if got := c.scanFast(p, from); got != want {
		t.Errorf("polynomial %v: planes over %d bytes from %d: cut %d, want %d", c.pol, len(p), from, got, want)
	}
	if at := c.skipPlanes(p, from); at < from || at > want || want-at >= 64 && len(p)-at >= unitBytes {
		t.Errorf("polynomial %v: planes over %d bytes from %d: %d skipped, cut at %d", c.pol, len(p), from, at, want)
	}
}

func randomChunker(t *testing.T) *Chunker {
	t.Helper()
	pol, err := RandomPol()
	if err != nil {
		t.Fatal(err)
	}
	return newChunker(pol)
}

// text makes n bytes of words and numbers, in lines.
func text(n int, r *rand.Rand) []byte {
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "func cut%d(p []byte) int { return %d }\n", r.IntN(1000), r.Uint32())
	}
	return b.Bytes()[:n]
}

// TestScansAgree takes random polynomials over data of many kinds from cut to cut.
func TestScansAgree(t *testing.T) {
	t.Logf("planes work: %v", planesWork)
	r := rand.New(rand.NewPCG(1, 2))
	const n = 3 << 20
	data := map[string][]byte{
		"noise": noise(n), "letters": letters(n), "text": text(n, r), "zeros": make([]byte, n), "same": fill(n, 'A'),
		"bits": fill(n, 0xff),
	}
	for range 6 {
		c := randomChunker(t)
		for name, p := range data {
			for i, from := 0, windowBytes; i < 100 && from < len(p); i++ {
				end := min(len(p), from+r.IntN(2<<20))
				sameScan(t, c, p[:end], from)
				from = c.scan(p[:end], from) + 1
			}
			if t.Failed() {
				t.Fatalf("of %s", name)
			}
		}
	}
}

// TestScanLengths takes lengths around those of all blocks, from places of every alignment.
func TestScanLengths(t *testing.T) {
	p := noise(64 + 3*planeBlockBytes)
	for units := range 2*15 + 3 {
		for _, d := range []int{-64, -1, 0, 1, 63, 64} {
			if n := units*unitBytes + d; n >= 0 {
				c := randomChunker(t)
				from := windowBytes + units
				sameScan(t, c, p[:from+n], from)
				sameScan(t, c, p[units:][:from+n], from)
			}
		}
	}
}

// TestScanEveryStream puts cuts, which 64 zeros are, into each stream of blocks of several lengths, in front of, behind and at
// the borders of its rows and of the block, alone and with others before and behind.
func TestScanEveryStream(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	c := randomChunker(t)
	base := text(windowBytes+planeBlockBytes+7*unitBytes, r)
	p := bytes.Clone(base)
	var cuts []int
	cut := func(at int) {
		cuts = append(cuts, at)
		clear(p[at-windowBytes : at])
	}
	found := make(map[int]bool)
	for _, units := range []int{1, 2, 15, 22} {
		end := windowBytes + units*unitBytes
		stride := min(units, 15) * 64
		for stream := range 64 {
			start := windowBytes + stream*stride
			for _, in := range []int{0, 1, 17, 62, 63, 64, 65, stride - 64, stride - 1, r.IntN(stride)} {
				cut(start + in)
				switch r.IntN(4) {
				case 1:
					cut(windowBytes + r.IntN(stream+1)*stride + r.IntN(stride))
				case 2:
					cut(windowBytes + stream*stride + r.IntN(end-start))
				case 3:
					cut(windowBytes + r.IntN(end-windowBytes))
				}
				sameScan(t, c, p[:end], windowBytes)
				found[c.scan(p[:end], windowBytes)] = true
				for _, at := range cuts {
					copy(p[at-windowBytes:at], base[at-windowBytes:at])
				}
				cuts = cuts[:0]
			}
		}
	}
	if len(found) < 500 {
		t.Errorf("cuts at %d places only: the text has some of its own", len(found))
	}
}

// TestScanStaysInside has the data begin and end where memory does.
func TestScanStaysInside(t *testing.T) {
	page := syscall.Getpagesize()
	m, err := syscall.Mmap(-1, 0, 40*unitBytes+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Munmap(m); err != nil {
			t.Error(err)
		}
	}()
	p := m[page : len(m)-page]
	copy(p, noise(len(p)))
	for _, guard := range [][]byte{m[:page], m[len(m)-page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	c := New(testPol)
	for units := range 40 {
		for _, d := range []int{0, 1, 63, 64, 65} {
			n := units*unitBytes + d
			sameScan(t, c, p[:windowBytes+n], windowBytes)
			if n+windowBytes <= len(p) {
				sameScan(t, c, p[len(p)-n-windowBytes:], windowBytes)
			}
		}
	}
}

// FuzzScan compares the scans with any polynomial, on noise or text where runs of zeros put cuts at will.
func FuzzScan(f *testing.F) {
	const most = 64 + 2*planeBlockBytes + 2*unitBytes
	kinds := [][]byte{noise(most), text(most, rand.New(rand.NewPCG(5, 6)))}
	f.Add(uint64(testPol), uint32(most), uint32(0), uint32(planeBlockBytes), uint32(7000), uint32(9000), byte(64), false)
	f.Add(uint64(1), uint32(most-1), uint32(64), uint32(2*planeBlockBytes), uint32(planeBlockBytes-1), uint32(0), byte(70), true)
	f.Add(uint64(0x1fffffffffffff), uint32(unitBytes+64), uint32(1), uint32(unitBytes), uint32(unitBytes-64), uint32(0), byte(64), true)
	f.Fuzz(func(t *testing.T, pol uint64, n, from, a, b, c uint32, run byte, isText bool) {
		p := kinds[0]
		if isText {
			p = kinds[1]
		}
		p = bytes.Clone(p[:windowBytes+int(n)%(most-windowBytes+1)])
		for _, at := range []uint32{a, b, c} {
			at := int(at) % (len(p) + 1)
			clear(p[at:min(at+int(run), len(p))])
		}
		ch := newChunker(Pol(pol&(1<<degree-1) | 1<<degree))
		sameScan(t, ch, p, windowBytes)
		sameScan(t, ch, p, windowBytes+int(from)%(len(p)-windowBytes+1))
	})
}
