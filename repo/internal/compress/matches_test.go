package compress

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// A sample is content and its frames. Tests may change them and change them back.
type sample struct {
	plain  []byte
	frames [][]byte
}

// samples are of many kinds; making their frames takes long.
var samples = sync.OnceValue(func() map[string]sample {
	all := map[string]sample{}
	for name, plain := range contents() {
		all[name] = sample{plain, frames(plain)}
	}
	return all
})

func contents() map[string][]byte {
	r := rand.New(rand.NewPCG(5, 6))
	s := map[string][]byte{
		"one byte":  {1},
		"word":      text(5),
		"line":      text(99),
		"page":      text(4000),
		"block":     text(128 << 10),
		"more":      text(128<<10 + 1),
		"text":      text(400_000),
		"noise":     noise(300_000),
		"zeros":     make([]byte, 400_000),
		"program":   program()[:400_000],
		"mixture":   slices.Concat(text(100_000), noise(200_000), make([]byte, 100_000), program()[:300_000], text(70_000)),
		"far apart": slices.Concat(noise(5000), make([]byte, 900_000), noise(5000)),
		"periods":   periods(r),
		"tables":    tablesKept(r),
	}
	// Codes of few symbols, of all lengths, and matches of all distances and lengths.
	few, copies := make([]byte, 200_000), noise(1000)
	for i := range few {
		few[i] = "ab"[r.IntN(2)]
	}
	for len(copies) < 600_000 {
		n := min(1+int(r.ExpFloat64()*40), len(copies))
		if r.IntN(200) == 0 {
			n = min(70_000, len(copies))
		}
		from := len(copies) - n - r.IntN(len(copies)-n+1)/(1+r.IntN(1000))
		copies = append(copies, copies[from:][:n]...)
		for range r.IntN(6) {
			copies = append(copies, byte(r.Uint32()))
		}
	}
	s["few"], s["skewed"], s["copies"] = few, skewed(r, 200_000), copies
	for n := 1; n < 300; n += 7 {
		s[fmt.Sprint("start of ", n)] = copies[1<<18:][:n]
	}
	return s
}

// periods has matches at all short distances, and such as go on from block to block.
func periods(r *rand.Rand) []byte {
	var p []byte
	for n := 1; n < 100; n++ {
		for _, length := range []int{n + 5, 40, 100, 1000} {
			p = append(p, noise(2000)[r.IntN(1000):][:n]...)
			for range length {
				p = append(p, p[len(p)-n])
			}
		}
	}
	for i := range 700_000 {
		p = append(p, p[len(p)-2000])
		if i%5000 == 0 {
			p = append(p, byte(i/5000))
		}
	}
	return p
}

// skewed is n bytes of which some are much rarer than others.
func skewed(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(min(r.ExpFloat64()*4, 255))
	}
	return p
}

// tablesKept is 17 blocks. The ninth and the tenth have so few sequences that they take the tables of the one before, and those behind
// them bring their own.
func tablesKept(r *rand.Rand) []byte {
	p := slices.Concat(text(7*maxBlockBytes), skewed(r, maxBlockBytes))
	for k := range 2 {
		rest := noise((k + 2) * maxBlockBytes)[(k+1)*maxBlockBytes:]
		for len(rest) >= 1000 {
			p = append(append(p, rest[:1000-60]...), p[len(p)-3000:][:60]...)
			rest = rest[1000:]
		}
		p = append(p, rest...)
	}
	return append(p, text(7*maxBlockBytes)...)
}

// writers make frames of the other library with settings that ours has not; making one takes long.
var writers = sync.OnceValue(func() []*zstd.Encoder {
	var all []*zstd.Encoder
	for _, options := range [][]zstd.EOption{
		{zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithSingleSegment(true)},
		{zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1 << 10)},
		{zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(64 << 10)},
		{zstd.WithNoEntropyCompression(true), zstd.WithSingleSegment(true)},
	} {
		e, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))...)
		if err != nil {
			panic(err)
		}
		all = append(all, e)
	}
	return all
})

// frames returns different frames of the content by both libraries.
func frames(plain []byte) [][]byte {
	var all [][]byte
	for _, l := range []Level{Auto, Fastest, Better, Max} {
		all = append(all, New(l).CompressAlways(nil, plain))
	}
	for _, e := range writers() {
		if frame := e.EncodeAll(plain, nil); frame[4]>>5 != 0 { // has its content size
			all = append(all, frame)
		}
	}
	return all
}

// eachDecoder runs a test with blocks one after the other, and beside each other where that can be.
func eachDecoder(t *testing.T, test func(t *testing.T)) {
	can := wide
	t.Logf("blocks beside each other: %v; what the processor has not is not tested", can)
	defer func() { wide = can }()
	wide = false
	t.Run("one by one", test)
	if wide = can; wide {
		t.Run("beside each other", test)
	}
}

// libraryMatches is Matches by the library's decoder.
func libraryMatches(frame, plain []byte) bool {
	can := wide
	defer func() { wide = can }()
	wide = false
	return decodedMatches(frame, plain)
}

// A frame matches its content, and nothing else: neither what is longer, shorter nor differs in one bit.
func TestMatches(t *testing.T) { eachDecoder(t, testMatches) }

func testMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, sample := range samples() {
		plain := sample.plain
		for i, frame := range sample.frames {
			if !Matches(frame, plain) {
				t.Errorf("%s: frame %d of %d plain bytes does not match", name, i, len(plain))
			}
			if Matches(frame, plain[1:]) || Matches(frame, plain[:len(plain)-1]) || Matches(frame, append(plain[:len(plain):len(plain)], 0)) {
				t.Errorf("%s: frame %d matches another length", name, i)
			}
			other := slices.Clone(plain)
			for range 10 {
				at := r.IntN(len(plain))
				other[at] ^= 1 << r.IntN(8)
				if Matches(frame, other) {
					t.Fatalf("%s: frame %d matches in spite of byte %d", name, i, at)
				}
				other[at] = plain[at]
			}
			for _, damaged := range [][]byte{nil, frame[:4], frame[:len(frame)-1], append(frame[:len(frame):len(frame)], 0)} {
				if Matches(damaged, plain) {
					t.Errorf("%s: %d bytes of %d of frame %d match", name, len(damaged), len(frame), i)
				}
			}
		}
	}
	if !Matches(New(Auto).CompressAlways(nil, nil), nil) || Matches(New(Auto).CompressAlways(nil, []byte{0}), nil) {
		t.Error("empty content")
	}
}

// A match must not reach beyond the window.
func TestMatchesWindow(t *testing.T) { eachDecoder(t, testMatchesWindow) }

func testMatchesWindow(t *testing.T) {
	part := noise(200_000)
	plain := slices.Concat(part, part)
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(256<<10))
	if err != nil {
		t.Fatal(err)
	}
	frame := e.EncodeAll(plain, nil)
	const descriptor = 5
	if frame[4]&0x20 != 0 || frame[descriptor] != 8<<3 || !Matches(frame, plain) {
		t.Fatalf("%x… is no frame with a window of 256 KiB that matches", frame[:8])
	}
	frame[descriptor] = 7<<3 | 4 // 196 608 bytes
	if able && Matches(frame, plain) {
		t.Error("a match over 200 000 bytes matches in a smaller window")
	}
	frame[descriptor] = 7<<3 | 5 // 212 992 bytes
	if !Matches(frame, plain) {
		t.Error("a match over 200 000 bytes does not match in a larger window")
	}
}

// Content that is longer than the window matches, with offsets that are almost as long.
func TestMatchesLongOffsets(t *testing.T) { eachDecoder(t, testMatchesLongOffsets) }

func testMatchesLongOffsets(t *testing.T) {
	for l, windowBytes := range map[Level]int{Auto: 1 << 20, Fastest: 1 << 20, Better: 2 << 20, Max: 4 << 20} {
		part := noise(windowBytes - 128<<10) // libzstd reaches no further from all of a block
		plain := slices.Concat(part, part)
		frame := New(l).CompressAlways(nil, plain)
		if able && (frame[4]&0x20 != 0 || len(frame) > len(plain)*3/4) {
			t.Errorf("%v: %x… of %d bytes has no window, or no such offsets", l, frame[:8], len(frame))
		}
		if !Matches(frame, plain) {
			t.Errorf("%v: %d plain bytes do not match", l, len(plain))
		}
	}
}

// A sequence whose run, match and offset are long has more bits than are at hand at a time.
func TestMatchesLongSequences(t *testing.T) { eachDecoder(t, testMatchesLongSequences) }

func testMatchesLongSequences(t *testing.T) {
	const runBytes, matchBytes = 40_000, 40_000 // 15 bits more than their codes each
	far := noise(6 * 128 << 10)                 // whole blocks, so that the next one begins with a run
	plain := slices.Concat(far, noise(7 * 128 << 10)[6*128<<10:][:runBytes], far[100_000:][:matchBytes])
	for i := range 100 { // sequences behind it
		plain = append(plain, byte(i), byte(i*i), 7)
		plain = append(plain, far[300_000+1000*i:][:30+i]...)
	}
	for i, frame := range frames(plain) {
		if !Matches(frame, plain) {
			t.Errorf("frame %d does not match", i)
		}
		plain[len(far)+runBytes+matchBytes-1] ^= 1
		if Matches(frame, plain) {
			t.Errorf("frame %d matches other content", i)
		}
		plain[len(far)+runBytes+matchBytes-1] ^= 1
	}
}

func FuzzMatches(f *testing.F) {
	for _, plain := range [][]byte{text(200), noise(30), make([]byte, 1000), text(5000)} {
		for _, frame := range frames(plain) {
			f.Add(frame, plain)
		}
	}
	f.Fuzz(func(t *testing.T, frame, plain []byte) {
		if Matches(frame, plain) && !libraryMatches(frame, plain) {
			t.Error("the frame does not match by the other decoder")
		}
		if len(plain) > 0 && !Matches(New(Auto).CompressAlways(nil, plain), plain) {
			t.Error("a frame of the content does not match")
		}
		// The decoder of streams refuses less than it should, but what it reads has to match.
		if len(frame) > 9 && binary.LittleEndian.Uint32(frame) == frameMagic && frame[4]&0x1f == 0 {
			if got, err := DecompressLimit(frame, 1<<20); err == nil && len(got) > 0 && Matches(frame, append(got[:len(got):len(got)], 1)) {
				t.Error("the frame matches what is longer")
			}
		}
	})
}

func FuzzContent(f *testing.F) {
	for _, plain := range [][]byte{text(wideLeast), program()[:wideLeast], slices.Concat(make([]byte, wideLeast), noise(3000), noise(2000))} {
		for _, frame := range frames(plain) {
			f.Add(frame, uint32(len(plain)-wideLeast))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, longer uint32) {
		got := make([]byte, wideLeast+int(longer%(1<<20)))
		if contentInto(got, frame) && !libraryMatches(frame, got) {
			t.Error("the content is not that of the other decoder")
		}
	})
}

// What Decompress and Matches do where blocks can be decoded beside each other.
func TestContent(t *testing.T) {
	if !wide {
		t.Log("not tested: this processor has no decoder of several blocks")
		return
	}
	ours := 0
	for name, sample := range samples() {
		plain := sample.plain
		for i, frame := range sample.frames {
			if len(plain) < wideLeast {
				if contentInto(make([]byte, len(plain)), frame) {
					t.Errorf("%s: frame %d is decoded, with %d bytes of content", name, i, len(plain))
				}
				continue
			}
			ours++
			got := make([]byte, len(plain))
			if !contentInto(got, frame) {
				t.Errorf("%s: frame %d is not decoded", name, i)
			} else if at := differ(got, plain); at >= 0 {
				t.Errorf("%s: frame %d: byte %d of %d is wrong", name, i, at, len(plain))
			}
			for _, damaged := range [][]byte{nil, frame[:4], frame[:len(frame)-1], append(frame[:len(frame):len(frame)], 0)} {
				if contentInto(got, damaged) {
					t.Errorf("%s: %d bytes of %d of frame %d are decoded", name, len(damaged), len(frame), i)
				}
			}
			if contentInto(got[1:], frame) || contentInto(append(got, 0), frame) {
				t.Errorf("%s: frame %d is decoded as another length", name, i)
			}
		}
	}
	if ours < 50 {
		t.Errorf("%d frames are long enough, which shows little", ours)
	}
}

// differ returns where slices of one length differ, -1 if they do not.
func differ(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func BenchmarkMatches(b *testing.B) {
	const pieceBytes = 1 << 20
	for name, plain := range map[string][]byte{"text": text(pieceBytes), "program": program()} {
		frame := New(Auto).CompressAlways(nil, plain)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(pieceBytes)
			for b.Loop() {
				if !Matches(frame, plain) {
					b.Fatal("no match")
				}
			}
		})
		b.Run(name+" decoded", func(b *testing.B) {
			b.SetBytes(pieceBytes)
			for b.Loop() {
				if !libraryMatches(frame, plain) {
					b.Fatal("no match")
				}
			}
		})
	}
}
