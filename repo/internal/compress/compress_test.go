package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

var levels = []Level{Auto, Off, Fastest, Better, Max}

// noise returns n bytes that no compressor shrinks.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{7})
	p := make([]byte, n)
	r.Read(p)
	return p
}

// text returns n bytes that shrink to about a third.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var p []byte
	for len(p) < n {
		p = fmt.Appendf(p, "line %d of %x\n", r.IntN(1000), r.Uint32N(1<<20))
	}
	return p[:n]
}

// program returns a mebibyte of this test's machine code.
func program() []byte {
	p := make([]byte, 1<<20)
	name, err := os.Executable()
	if err != nil {
		panic(err)
	}
	f, err := os.Open(name)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(p, 64<<10); err != nil {
		panic(err)
	}
	return p
}

func TestLevelWords(t *testing.T) {
	for _, l := range levels {
		if got, err := ParseLevel(l.String()); got != l || err != nil {
			t.Errorf("%v: %v, error %v", l, got, err)
		}
	}
	for _, s := range []string{"", "Auto", "level-9", "none"} {
		if l, err := ParseLevel(s); err == nil {
			t.Errorf("%q is %v", s, l)
		}
	}
}

// TestRoundTrip also reads with the Go implementation, which is restic's decoder.
func TestRoundTrip(t *testing.T) {
	other, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	plains := [][]byte{nil, {1}, text(10), text(300), text(70_000), text(3 << 20), noise(5), noise(1000), noise(1 << 20), make([]byte, 8<<20), program()}
	for _, l := range levels {
		c := New(l)
		for _, plain := range plains {
			out := c.CompressAlways([]byte("before"), plain)
			if !bytes.HasPrefix(out, []byte("before")) {
				t.Fatalf("%v: the beginning of dst is lost", l)
			}
			frame := out[6:]
			if f, err := parseFrame(frame); err != nil || !f.sized || f.contentBytes != uint64(len(plain)) {
				t.Errorf("%v: %d bytes: frame %v, error %v", l, len(plain), f, err)
			}
			if got, err := Decompress([]byte("before"), frame, len(plain)); err != nil || !bytes.Equal(got[6:], plain) || string(got[:6]) != "before" {
				t.Errorf("%v: %d bytes: error %v", l, len(plain), err)
			}
			if got, err := DecompressLimit(frame, len(plain)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v: %d bytes with limit: error %v", l, len(plain), err)
			}
			if got, err := other.DecodeAll(frame, nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v: %d bytes with the other decoder: error %v", l, len(plain), err)
			}
		}
	}
}

func TestCompressTellsWhatIsNotWorthIt(t *testing.T) {
	zip := append(noise(1<<20), text(50_000)...) // its directory is at the end
	sparse := noise(1 << 20)
	clear(sparse[100_000:160_000])
	almost := append(noise(100_000), make([]byte, 300)...) // saves less than it takes to decode
	for name, tt := range map[string]struct {
		plain []byte
		want  bool
	}{
		"nothing":          {nil, false},
		"few bytes":        {[]byte("aaaaaaaa"), false},
		"short text":       {text(200), true},
		"text":             {text(1 << 20), true},
		"program":          {program(), true},
		"noise":            {noise(1 << 20), false},
		"short noise":      {noise(1000), false},
		"archive":          {zip, true},
		"hole between":     {sparse, true},
		"hardly worth it":  {almost, false},
		"large and zero":   {make([]byte, 8<<20), true},
		"just before that": {noise(trialBytes - 1), false},
	} {
		for _, l := range levels {
			dst := []byte("before")
			out, ok := New(l).Compress(dst, tt.plain)
			if want := tt.want && l != Off; ok != want {
				t.Errorf("%s at %v: %v", name, l, ok)
			}
			if !ok && string(out) != "before" || ok && len(out) >= 6+len(tt.plain) {
				t.Errorf("%s at %v: %v, %d bytes", name, l, ok, len(out))
			}
		}
	}
}

func TestLevelsAreInOrder(t *testing.T) {
	whole := program()
	for _, n := range []int{12 << 10, 100 << 10, 200 << 10, len(whole)} {
		plain := whole[len(whole)-n:]
		length := func(l Level) int { return len(New(l).CompressAlways(nil, plain)) }
		fastest, auto, better, best := length(Fastest), length(Auto), length(Better), length(Max)
		if fastest < auto || auto < better || better < best {
			t.Errorf("of %d: fastest %d, auto %d, better %d, max %d bytes", n, fastest, auto, better, best)
		}
		t.Logf("of %d: fastest %d, auto %d, better %d, max %d bytes", n, fastest, auto, better, best)
	}
}

func TestParallel(t *testing.T) {
	c := New(Auto)
	plain := text(200_000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			plain := plain[i:]
			for range 20 {
				frame, ok := c.Compress(nil, plain)
				if !ok {
					t.Error("text does not shrink")
					return
				}
				if got, err := Decompress(nil, frame, len(plain)); err != nil || !bytes.Equal(got, plain) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// streamed is a frame that does not tell its size, of several blocks, with a checksum.
func streamed(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for len(plain) > 0 {
		n := min(len(plain), 100_000)
		if _, err := w.Write(plain[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		plain = plain[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFramesWithoutASize(t *testing.T) {
	for _, plain := range [][]byte{text(1000), text(1 << 20), make([]byte, 4<<20), noise(300_000)} {
		frame := streamed(t, plain)
		if f, err := parseFrame(frame); err != nil || f.sized {
			t.Fatalf("frame %v, error %v: the test wants one without a size", f, err)
		}
		if got, err := Decompress(nil, frame, len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: error %v", len(plain), err)
		}
		for _, limit := range []int{len(plain), len(plain) + 1, 100 << 20} {
			if got, err := DecompressLimit(frame, limit); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, limit %d: error %v", len(plain), limit, err)
			}
		}
		for _, wrong := range []int{-1, 0, len(plain) - 1, len(plain) + 1} {
			if got, err := Decompress(nil, frame, wrong); !errors.Is(err, ErrCorrupt) || len(got) > 0 {
				t.Errorf("%d bytes as %d: error %v", len(plain), wrong, err)
			}
		}
		for _, limit := range []int{-1, 0, len(plain) - 1} {
			if _, err := DecompressLimit(frame, limit); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d bytes, limit %d: error %v", len(plain), limit, err)
			}
		}
	}
}

func TestWrongSizes(t *testing.T) {
	plain := text(5000)
	frame := New(Auto).CompressAlways(nil, plain)
	for _, wrong := range []int{-1, 0, 4999, 5001, 1 << 40} {
		if got, err := Decompress([]byte("x"), frame, wrong); !errors.Is(err, ErrCorrupt) || string(got) != "x" {
			t.Errorf("as %d bytes: %q, error %v", wrong, got, err)
		}
	}
	if _, err := DecompressLimit(frame, 4999); !errors.Is(err, ErrCorrupt) {
		t.Errorf("limit 4999: error %v", err)
	}
	if got, err := Decompress(nil, New(Auto).CompressAlways(nil, nil), 0); err != nil || len(got) != 0 {
		t.Errorf("nothing: %d bytes, error %v", len(got), err)
	}
}

// rle returns a frame of as many blocks, each 128 KiB of one byte in 4 bytes. size < 0: not told.
func rle(blocks int, size int64) []byte {
	p := binary.LittleEndian.AppendUint32(nil, frameMagic)
	if size < 0 {
		p = append(p, 0, 0x58) // window of 2 MiB
	} else {
		p = append(p, 0xC0, 0x58)
		p = binary.LittleEndian.AppendUint64(p, uint64(size))
	}
	for i := range blocks {
		last := uint32(0)
		if i == blocks-1 {
			last = 1
		}
		h := last | 1<<1 | maxBlockBytes<<3
		p = append(p, byte(h), byte(h>>8), byte(h>>16), 'x')
	}
	return p
}

// TestBombs gives a few bytes that claim or hold gigabytes, and counts what is allocated.
func TestBombs(t *testing.T) {
	const limit = 4 << 20
	for name, tt := range map[string]struct {
		frame []byte
		ok    bool
	}{
		"fits":                {rle(32, -1), true},
		"fits, told":          {rle(32, limit), true},
		"one block too many":  {rle(33, -1), false},
		"gigabytes":           {rle(100_000, -1), false},
		"gigabytes, told":     {rle(100_000, 100_000*maxBlockBytes), false},
		"lies: less is there": {rle(1, limit), false},
		"lies: more is there": {rle(100_000, 10), false},
		"claims an exabyte":   {rle(1, 1<<60), false},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := DecompressLimit(tt.frame, limit)
		runtime.ReadMemStats(&after)
		if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, ErrCorrupt) || tt.ok && len(got) != limit {
			t.Errorf("%s: %d bytes, error %v", name, len(got), err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*limit {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}

	// The caller may have been lied to as well: the frame cannot hold that much.
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Decompress(nil, rle(1, 1<<32-1), 1<<32-1)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrCorrupt) || n > 1<<20 {
		t.Errorf("4 GiB in one block: error %v, %d bytes allocated", err, n)
	}
}

func TestDamage(t *testing.T) {
	plain := text(3000)
	for name, frame := range map[string][]byte{
		"sized":    New(Auto).CompressAlways(nil, plain),
		"streamed": streamed(t, plain),
	} {
		for n := range frame {
			if _, err := Decompress(nil, frame[:n], len(plain)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: cut to %d: error %v", name, n, err)
			}
			if _, err := DecompressLimit(frame[:n], 1<<20); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: cut to %d, with limit: error %v", name, n, err)
			}
		}
		for i := range len(frame) * 8 {
			p := bytes.Clone(frame)
			p[i/8] ^= 1 << (i % 8)
			// Without a checksum a changed frame may well be a frame.
			if got, err := Decompress(nil, p, len(plain)); err == nil && len(got) != len(plain) || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: bit %d: %d bytes, error %v", name, i, len(got), err)
			}
			if got, err := DecompressLimit(p, 1<<20); len(got) > 1<<20 || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: bit %d, with limit: %d bytes, error %v", name, i, len(got), err)
			}
		}
	}
}

func TestOneFrameOnly(t *testing.T) {
	frame := New(Auto).CompressAlways(nil, text(100))
	dict := bytes.Clone(frame)
	dict[4] |= 1                                               // has a dictionary id
	dict = append(dict[:5], append([]byte{9}, dict[5:]...)...) // which is 9
	for name, p := range map[string][]byte{
		"two frames":      append(bytes.Clone(frame), frame...),
		"a byte behind":   append(bytes.Clone(frame), 0),
		"skippable frame": append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, frame...),
		"old magic":       append([]byte{0x27, 0xb5, 0x2f, 0xfd}, frame[4:]...),
		"dictionary":      dict,
	} {
		if _, err := Decompress(nil, p, 100); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := DecompressLimit(p, 200); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, with limit: error %v", name, err)
		}
	}
}

// FuzzDecompress wants the two functions to agree with each other and, where both accept, with
// the Go implementation.
func FuzzDecompress(f *testing.F) {
	for _, plain := range [][]byte{nil, text(500), noise(100), make([]byte, 5000)} {
		f.Add(New(Auto).CompressAlways(nil, plain))
		f.Add(streamed(f, plain))
	}
	f.Add(rle(2, -1))
	f.Add(rle(1, 1<<60))
	const limit = 1 << 20
	other, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(limit), zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	defer other.Close()
	f.Fuzz(func(t *testing.T, src []byte) {
		plain, err := DecompressLimit(src, limit)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || plain != nil {
				t.Errorf("%d bytes, error %v", len(plain), err)
			}
			return
		}
		if len(plain) > limit {
			t.Errorf("%d bytes, limit %d", len(plain), limit)
		}
		again, err := Decompress(nil, src, len(plain))
		if err != nil || !bytes.Equal(plain, again) {
			t.Errorf("DecompressLimit gave %d bytes, Decompress error %v", len(plain), err)
		}
		if got, err := other.DecodeAll(src, nil); err == nil && !bytes.Equal(got, plain) {
			t.Errorf("the other decoder gave %d bytes, not the same %d", len(got), len(plain))
		}
		frame := New(Auto).CompressAlways(nil, plain)
		if got, err := Decompress(nil, frame, len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("round trip: error %v", err)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	for name, plain := range map[string][]byte{"program": program(), "text-16k": text(16 << 10), "noise": noise(1 << 20)} {
		for _, l := range []Level{Fastest, Auto, Better, Max} {
			b.Run(name+"/"+l.String(), func(b *testing.B) {
				c := New(l)
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				var dst []byte
				for b.Loop() {
					dst, _ = c.Compress(dst[:0], plain)
				}
			})
		}
	}
}

func BenchmarkDecompress(b *testing.B) {
	for name, plain := range map[string][]byte{"program": program(), "text-16k": text(16 << 10)} {
		b.Run(name, func(b *testing.B) {
			frame := New(Auto).CompressAlways(nil, plain)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			dst := make([]byte, 0, len(plain))
			for b.Loop() {
				var err error
				if dst, err = Decompress(dst[:0], frame, len(plain)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestReader(t *testing.T) {
	for name, plain := range map[string][]byte{"nothing": nil, "short": text(100), "long": text(3 << 20), "noise": noise(300_000)} {
		for kind, frame := range map[string][]byte{"sized": New(Auto).CompressAlways(nil, plain), "streamed": streamed(t, plain)} {
			r, err := NewReader(frame, len(plain))
			if err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
				continue
			}
			if got, err := io.ReadAll(iotest.HalfReader(r)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes, error %v", name, kind, len(got), err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s, %s: close: %v", name, kind, err)
			}
			for _, wrong := range []int{-1, len(plain) - 1, len(plain) + 1} {
				if err := drain(frame, wrong); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s, %s, said to be %d bytes: error %v", name, kind, wrong, err)
				}
			}
		}
	}
}

// drain reads all that NewReader gives.
func drain(frame []byte, plainBytes int) error {
	r, err := NewReader(frame, plainBytes)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func TestReaderOfDamage(t *testing.T) {
	plain := text(3000)
	for kind, frame := range map[string][]byte{"sized": New(Auto).CompressAlways(nil, plain), "streamed": streamed(t, plain)} {
		for n := range frame {
			if err := drain(frame[:n], len(plain)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: cut to %d: error %v", kind, n, err)
			}
		}
		for i := range len(frame) * 8 {
			p := bytes.Clone(frame)
			p[i/8] ^= 1 << (i % 8)
			if err := drain(p, len(plain)); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: bit %d: error %v", kind, i, err)
			}
		}
	}
	for name, frame := range map[string][]byte{"too much": rle(100_000, -1), "too much, told": rle(100_000, 10), "not all": rle(2, 4<<20)} {
		if err := drain(frame, 4<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
