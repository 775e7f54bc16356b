package chunker

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testPol is the polynomial of the restic repository that the golden lengths come from.
const testPol Pol = 0x280d983b5f3f93

// noise makes n bytes that every test run and restic agree on. The caller may change them.
func noise(n int) []byte { return slices.Clone(allNoise()[:n]) }

var allNoise = sync.OnceValue(func() []byte {
	const n = 24 << 20
	p := make([]byte, 0, n)
	for x := uint64(0x9e3779b97f4a7c15); len(p) < n; {
		x ^= x >> 12
		x ^= x << 25
		x ^= x >> 27
		w := x * 0x2545f4914f6cdd1d
		for range 8 {
			p = append(p, byte(w))
			w >>= 8
		}
	}
	return p
})

// letters is noise with little entropy.
func letters(n int) []byte {
	p := noise(n)
	for i, b := range p {
		p[i] = "abc\n"[b%4]
	}
	return p
}

// fill makes n times b.
func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

// TestGolden holds the chunk lengths that Debian's restic 0.14.0 gave the same bytes.
func TestGolden(t *testing.T) {
	for _, test := range []struct {
		name string
		data []byte
		want []int
	}{
		{"empty", nil, nil},
		{"min-1", noise(MinBytes - 1), []int{MinBytes - 1}},
		{"min", noise(MinBytes), []int{MinBytes}},
		{"min+1", noise(MinBytes + 1), []int{MinBytes + 1}},
		{"max", noise(MaxBytes), []int{1603931, 3551089, 806911, 528613, 754393, 595974, 547697}},
		// restic was given 64 MiB; the last length is what 24 MiB leave of its chunk.
		{"noise", noise(24 << 20), []int{
			1603931, 3551089, 806911, 528613, 754393, 595974, 2090060, 1095369, 3330748, 1090888, 1833251, 785898, 611323,
			1160128, 1305144, 616773, 1648085, 1359083, 398163,
		}},
		{"letters", letters(24 << 20), []int{
			1153507, 2964577, 613995, 996708, 2122500, 1407442, 556877, 3432542, 1171536, 3636715, 1372963, 2656685, 3079777,
		}},
		{"shifted", append(make([]byte, 1000), noise(16<<20)...), []int{
			1604931, 3551089, 806911, 528613, 754393, 595974, 2090060, 1095369, 3330748, 1090888, 1329240,
		}},
		{"zeros", make([]byte, 20<<20), slices.Repeat([]int{MinBytes}, 40)},
		{"same", fill(20<<20, 'A'), []int{MaxBytes, MaxBytes, 4 << 20}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(testPol)
			var got []int
			for rest := test.data; len(rest) > 0; rest = rest[got[len(got)-1]:] {
				got = append(got, c.Cut(rest))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("chunk lengths (-restic +ours):\n%s", diff)
			}
		})
	}
	if n := New(testPol).Cut(nil); n != 0 {
		t.Errorf("Cut of nothing is %d", n)
	}
}

// TestCutLooksAhead checks that the cut does not depend on what follows MaxBytes, which
// the caller may or may not have read.
func TestCutLooksAhead(t *testing.T) {
	c := New(testPol)
	p := fill(MaxBytes+MinBytes, 'A')
	for _, n := range []int{MaxBytes - 1, MaxBytes, MaxBytes + 1, len(p)} {
		if got, want := c.Cut(p[:n]), min(n, MaxBytes); got != want {
			t.Errorf("Cut of %d bytes = %d, want %d", n, got, want)
		}
	}
}

// TestCutFrom reads data in pieces, which must not move a cut.
func TestCutFrom(t *testing.T) {
	c := New(testPol)
	r := rand.New(rand.NewPCG(7, 8))
	for name, p := range map[string][]byte{
		"noise": noise(24 << 20), "letters": letters(24 << 20), "zeros": fill(3<<20, 0), "same": fill(20<<20, 'A'),
	} {
		for _, piece := range []int{1 << 16, 1 << 20, 16 << 20} {
			for rest := p; len(rest) > 0; {
				want := c.Cut(rest)
				// The second piece begins at the cut, or beside it.
				held, scanned := max(0, want+r.IntN(3)-1), 0
				if r.IntN(2) == 0 {
					held = r.IntN(piece)
				}
				got := 0
				for {
					held = min(held, len(rest))
					got = c.CutFrom(rest[:held], scanned)
					if got < held || got == MaxBytes || held == len(rest) {
						break
					}
					scanned = got
					held += r.IntN(piece)
				}
				if got != want {
					t.Fatalf("%s: cut %d of a file that came in pieces up to %d bytes, want %d", name, got, piece, want)
				}
				rest = rest[got:]
			}
		}
	}
}

func TestNewShares(t *testing.T) {
	var wg sync.WaitGroup
	var got [4]*Chunker
	for i := range got {
		wg.Go(func() { got[i] = New(testPol) })
	}
	wg.Wait()
	for _, c := range got {
		if c != got[0] {
			t.Error("tables made twice")
		}
	}
	for range 2 * maxMade {
		pol, err := RandomPol()
		if err != nil {
			t.Fatal(err)
		}
		New(pol)
	}
	if n := len(made.byPol); n > maxMade {
		t.Errorf("%d polynomials are remembered, want at most %d", n, maxMade)
	}
}

func TestNewPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a polynomial of degree 3 was taken")
		}
	}()
	New(0b1011)
}

// byTheBook cuts as the format describes it: a window array, byte by byte, bit by bit.
func byTheBook(pol Pol, p []byte) int {
	if len(p) <= MinBytes {
		return len(p)
	}
	var window [windowBytes]byte
	var at int
	append8 := func(d Pol, b byte) Pol { return (d<<8 | Pol(b)).mod(pol) }
	var out [256]Pol
	for b := range out {
		out[b] = append8(0, byte(b))
		for range windowBytes - 1 {
			out[b] = append8(out[b], 0)
		}
	}
	var d Pol
	slide := func(b byte) {
		d ^= out[window[at]]
		window[at] = b
		at = (at + 1) % windowBytes
		d = append8(d, b)
	}
	slide(1)
	for n := MinBytes - windowBytes; n < len(p); {
		slide(p[n])
		n++
		if n >= MinBytes && (d&cutMask == 0 || n >= MaxBytes) {
			return n
		}
	}
	return len(p)
}

// FuzzCut compares the streams with the plain loop and with the format's own words, on
// noise where runs of zeros put cuts at will.
func FuzzCut(f *testing.F) {
	const blockBytes = 4 * streamBytes
	data := noise(MinBytes + 6*blockBytes)
	f.Add(uint32(MinBytes+3*blockBytes), uint32(MinBytes), uint32(MinBytes+1), uint32(MinBytes+2), byte(64))
	f.Add(uint32(MinBytes+blockBytes), uint32(MinBytes+blockBytes-64), uint32(0), uint32(0), byte(64))
	f.Add(uint32(MinBytes+blockBytes+1), uint32(MinBytes+blockBytes-63), uint32(0), uint32(0), byte(64))
	f.Add(uint32(MinBytes+2*blockBytes), uint32(MinBytes+3*streamBytes), uint32(MinBytes+2*streamBytes+9), uint32(MinBytes+streamBytes+99), byte(70))
	f.Add(uint32(MinBytes-1), uint32(0), uint32(0), uint32(0), byte(0))
	f.Add(uint32(MinBytes+1), uint32(MinBytes-63), uint32(0), uint32(0), byte(64))
	f.Fuzz(func(t *testing.T, n, a, b, c uint32, run byte) {
		p := append([]byte(nil), data[:int(n)%(len(data)+1)]...)
		for _, at := range []uint32{a, b, c} {
			at := min(int(at), len(p))
			clear(p[at:min(at+int(run), len(p))])
		}
		ch := New(testPol)
		want := byTheBook(testPol, p)
		if got := ch.Cut(p); got != want {
			t.Fatalf("Cut of %d bytes = %d, want %d", len(p), got, want)
		}
		for _, from := range []int{windowBytes, windowBytes + int(a%blockBytes)} {
			if from > len(p) {
				continue
			}
			sameScan(t, ch, p, from)
		}
	})
}

func BenchmarkCut(b *testing.B) {
	const n = 24 << 20
	c := New(testPol)
	scans := map[string]func(p []byte, from int) int{"plain": c.scan, "streams": c.scanStreams}
	for _, way := range ways {
		if way.works {
			scans[way.name] = func(p []byte, from int) int { return c.scan(p, way.skip(c, p, from)) }
		}
	}
	for kind, p := range map[string][]byte{"noise": noise(n), "text": text(n, rand.New(rand.NewPCG(9, 10)))} {
		for name, scan := range scans {
			b.Run(kind+"/"+name, func(b *testing.B) {
				b.SetBytes(n)
				for b.Loop() {
					for from := windowBytes; from < n; {
						from += 1 + scan(p[from:], windowBytes)
					}
				}
			})
		}
		b.Run(kind+"/Cut", func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				for rest := p; len(rest) > 0; {
					rest = rest[c.Cut(rest):]
				}
			}
		})
	}
}
