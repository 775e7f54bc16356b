package chunker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
)

const (
	rowBytes = 64 // of a stream
	mostRows = 15 // of a block
	mostUnit = 64 * rowBytes
)

// ways are those to scan several streams at once.
var ways = []struct {
	name    string
	works   bool
	streams int
	skip    func(c *Chunker, p []byte, from int) int
}{
	{"AVX-512", works512, 64, (*Chunker).skip512},
	{"AVX2", works256, 32, (*Chunker).skip256},
}

// sameScan checks each fast scan of this machine against the plain one.
func sameScan(t *testing.T, c *Chunker, p []byte, from int) {
	t.Helper()
	want := c.scan(p, from)
	check := func(name string, got int) {
		t.Helper()
		if got != want {
			t.Errorf("polynomial %v: %s over %d bytes from %d: cut %d, want %d", c.pol, name, len(p), from, got, want)
		}
	}
	check("streams", c.scanStreams(p, from))
	check("fast", c.scanFast(p, from))
	for _, way := range ways {
		if !way.works {
			continue
		}
		at := way.skip(c, p, from)
		if at < from || at > want || want-at >= rowBytes && len(p)-at >= way.streams*rowBytes {
			t.Errorf("polynomial %v: %s over %d bytes from %d: %d skipped, cut at %d", c.pol, way.name, len(p), from, at, want)
			continue
		}
		check(way.name, c.scan(p, at))
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
	for _, way := range ways {
		t.Logf("%s works: %v; what the processor has not is not tested", way.name, way.works)
	}
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
	p := noise(64 + 3*mostRows*mostUnit)
	for _, way := range ways {
		for units := range 2*mostRows + 3 {
			for _, d := range []int{-64, -1, 0, 1, 63, 64} {
				if n := units*way.streams*rowBytes + d; n >= 0 {
					c := randomChunker(t)
					from := windowBytes + units
					sameScan(t, c, p[:from+n], from)
					sameScan(t, c, p[units:][:from+n], from)
				}
			}
		}
	}
}

// TestScanEveryStream puts cuts, which 64 zeros are, into each stream of blocks of several lengths, in front of, behind and at
// the borders of its rows and of the block, alone and with others before and behind.
func TestScanEveryStream(t *testing.T) {
	for _, way := range ways {
		t.Run(strconv.Itoa(way.streams), func(t *testing.T) { scanEveryStream(t, way.streams) })
	}
}

func scanEveryStream(t *testing.T, streams int) {
	unit := streams * rowBytes
	r := rand.New(rand.NewPCG(3, 4))
	c := randomChunker(t)
	base := text(windowBytes+(mostRows+7)*unit, r)
	p := bytes.Clone(base)
	var cuts []int
	cut := func(at int) {
		cuts = append(cuts, at)
		clear(p[at-windowBytes : at])
	}
	found := make(map[int]bool)
	for _, units := range []int{1, 2, mostRows, mostRows + 7} {
		end := windowBytes + units*unit
		stride := min(units, mostRows) * rowBytes
		for stream := range streams {
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
	if len(found) < 8*streams {
		t.Errorf("cuts at %d places only: the text has some of its own", len(found))
	}
}

// TestScanStaysInside has the data begin and end where memory does.
func TestScanStaysInside(t *testing.T) {
	page := syscall.Getpagesize()
	m, err := syscall.Mmap(-1, 0, 40*mostUnit+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
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
	for _, way := range ways {
		for units := range 40 {
			for _, d := range []int{0, 1, 63, 64, 65} {
				n := units*way.streams*rowBytes + d
				sameScan(t, c, p[:windowBytes+n], windowBytes)
				if n+windowBytes <= len(p) {
					sameScan(t, c, p[len(p)-n-windowBytes:], windowBytes)
				}
			}
		}
	}
}

// FuzzScan compares the scans with any polynomial, on noise or text where runs of zeros put cuts at will.
func FuzzScan(f *testing.F) {
	const block, most = mostRows * mostUnit, 64 + 2*mostRows*mostUnit + 2*mostUnit
	kinds := [][]byte{noise(most), text(most, rand.New(rand.NewPCG(5, 6)))}
	f.Add(uint64(testPol), uint32(most), uint32(0), uint32(block), uint32(7000), uint32(9000), byte(64), false)
	f.Add(uint64(1), uint32(most-1), uint32(64), uint32(2*block), uint32(block-1), uint32(0), byte(70), true)
	f.Add(uint64(0x1fffffffffffff), uint32(mostUnit+64), uint32(1), uint32(mostUnit), uint32(mostUnit-64), uint32(0), byte(64), true)
	f.Add(uint64(testPol), uint32(mostUnit/2+64), uint32(0), uint32(mostUnit/2), uint32(mostUnit/2-64), uint32(0), byte(64), false)
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
