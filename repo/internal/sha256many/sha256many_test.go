package sha256many

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
)

// noise returns n bytes that look random.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(p)
	return p
}

// sum2 returns the sums of two messages.
func sum2(a, b []byte) (sumA, sumB [sha256.Size]byte) {
	var sums [2][sha256.Size]byte
	Sums(sums[:], [][]byte{a, b})
	return sums[0], sums[1]
}

// compare holds the sums of two messages against crypto/sha256.
func compare(t *testing.T, a, b []byte) {
	t.Helper()
	gotA, gotB := sum2(a, b)
	if wantA, wantB := sha256.Sum256(a), sha256.Sum256(b); gotA != wantA || gotB != wantB {
		t.Fatalf("sums of %d and %d bytes: %x %x, want %x %x", len(a), len(b), gotA, gotB, wantA, wantB)
	}
}

func TestTwoOfAllShortLengths(t *testing.T) {
	a, b := noise(1, 300), noise(2, 300)
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			compare(t, a[:i], b[:j])
		}
	}
	compare(t, nil, nil)
}

func TestTwoOfLongMessages(t *testing.T) {
	p := noise(3, 3<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	some := func() []byte { // anywhere, so not aligned, and it overlaps the other one
		n := rng.IntN(1 << (8 + rng.IntN(13)))
		at := rng.IntN(len(p) - n)
		return p[at : at+n]
	}
	for range 200 {
		compare(t, some(), some())
	}
	whole := p[1:]
	for _, n := range []int{callBlocks*blockBytes - 1, callBlocks * blockBytes, callBlocks*blockBytes + 1, 2*callBlocks*blockBytes + 65} {
		compare(t, whole[:n], whole[:n]) // the same memory
		compare(t, whole[:n], p[:n])
		compare(t, whole[:n], whole)
		compare(t, whole, nil)
		compare(t, nil, whole)
	}
}

func TestSums(t *testing.T) {
	p := noise(4, 1<<18)
	rng := rand.New(rand.NewPCG(3, 4))
	for count := range 40 {
		for range 5 {
			messages := make([][]byte, count)
			for i := range messages {
				n := rng.IntN(1 << (1 + rng.IntN(17)))
				at := rng.IntN(len(p) - n)
				messages[i] = p[at : at+n]
			}
			got := make([][sha256.Size]byte, count)
			Sums(got, messages)
			for i, m := range messages {
				if want := sha256.Sum256(m); got[i] != want {
					t.Fatalf("message %d of %d, %d bytes: %x, want %x", i, count, len(m), got[i], want)
				}
			}
		}
	}
}

// Lanes take messages of any length while others are under way, and gives each its own sum.
func TestLanes(t *testing.T) {
	p := noise(14, 1<<18)
	rng := rand.New(rand.NewPCG(5, 6))
	var lanes Lanes
	for round := range 30 {
		messages := make([][]byte, rng.IntN(60))
		left := make(map[int]bool)
		end := func() {
			name, sum := lanes.End()
			if !left[name] {
				t.Fatalf("round %d: message %d came to an end and is not under way", round, name)
			}
			delete(left, name)
			if want := sha256.Sum256(messages[name]); sum != want {
				t.Fatalf("round %d: message %d, %d bytes: %x, want %x", round, name, len(messages[name]), sum, want)
			}
		}
		for i := range messages {
			n := rng.IntN(1 << (1 + rng.IntN(17)))
			at := rng.IntN(len(p) - n)
			messages[i] = p[at : at+n]
			for len(left) > 0 && (rng.IntN(4) == 0 || !lanes.Free()) {
				end()
			}
			if lanes.Free() != (len(left) < Width()) {
				t.Fatalf("round %d: %d messages are under way, and there is room: %v", round, len(left), lanes.Free())
			}
			lanes.Begin(i, messages[i])
			left[i] = true
		}
		for len(left) > 0 {
			end()
		}
	}
}

// Messages of all short lengths, as many at a time as there are lanes: each ends while others go on.
func TestManyShort(t *testing.T) {
	p := noise(14, 400)
	for n := range 300 {
		messages, sums := make([][]byte, lanesMost), make([][sha256.Size]byte, lanesMost)
		for i := range messages {
			messages[i] = p[i:][:n+(i*5)%lanesMost]
		}
		Sums(sums, messages)
		for i, m := range messages {
			if want := sha256.Sum256(m); sums[i] != want {
				t.Fatalf("message %d of %d bytes: %x, want %x", i, len(m), sums[i], want)
			}
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	var lanes Lanes
	a, b := noise(5, 70_000), noise(6, 100)
	messages, sums := [][]byte{a, b, b, a, b}, make([][sha256.Size]byte, 5)
	if n := testing.AllocsPerRun(10, func() {
		sum2(a, b)
		Sums(sums, messages)
		lanes.Begin(1, a)
		lanes.Begin(2, b)
		lanes.End()
		lanes.End()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzMany cuts what it gets into as many messages as there are lanes and more.
func FuzzMany(f *testing.F) {
	f.Add(noise(15, 3000), uint64(1))
	f.Add(noise(16, 20_000), uint64(2))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		messages := make([][]byte, 1+rng.IntN(2*lanesMost))
		for i := range messages {
			begin := rng.IntN(len(p) + 1)
			messages[i] = p[begin : begin+rng.IntN(len(p)-begin+1)]
		}
		sums := make([][sha256.Size]byte, len(messages))
		Sums(sums, messages)
		for i, m := range messages {
			if want := sha256.Sum256(m); sums[i] != want {
				t.Fatalf("message %d of %d bytes: %x, want %x", i, len(m), sums[i], want)
			}
		}
	})
}

func FuzzTwo(f *testing.F) {
	f.Add([]byte("abc"), []byte(""))
	f.Add(noise(7, 55), noise(8, 56))
	f.Add(noise(9, 64), noise(10, 119))
	f.Add(noise(11, 120), noise(12, 1000))
	f.Fuzz(func(t *testing.T, a, b []byte) { compare(t, a, b) })
}

var sizes = []int{256, 4 << 10, 16 << 10, 64 << 10, 1 << 20}

func BenchmarkTwo(b *testing.B) {
	for _, n := range sizes {
		x, y := noise(1, n), noise(2, n)
		b.Run(fmt.Sprintf("%dB/interleaved", n), func(b *testing.B) {
			b.SetBytes(int64(2 * n))
			for b.Loop() {
				sum2(x, y)
			}
		})
		b.Run(fmt.Sprintf("%dB/stdlib", n), func(b *testing.B) {
			b.SetBytes(int64(2 * n))
			for b.Loop() {
				sha256.Sum256(x)
				sha256.Sum256(y)
			}
		})
	}
}

// As many messages as there are lanes, and fewer.
func BenchmarkMany(b *testing.B) {
	const n = 256 << 10
	for _, count := range []int{2, 4, 6, 7, 8, 12, 16, 64} {
		messages, sums := make([][]byte, count), make([][sha256.Size]byte, count)
		for i := range messages {
			messages[i] = noise(uint64(i), n)
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.SetBytes(int64(count * n))
			for b.Loop() {
				Sums(sums, messages)
			}
		})
	}
	for _, n := range []int{1 << 10, 4 << 10, 16 << 10} {
		const count = 64
		messages, sums := make([][]byte, count), make([][sha256.Size]byte, count)
		total := 0
		for i := range messages {
			messages[i] = noise(uint64(i), n/2+(i*7919)%n)
			total += len(messages[i])
		}
		b.Run(fmt.Sprintf("64 of about %d", n), func(b *testing.B) {
			b.SetBytes(int64(total))
			for b.Loop() {
				Sums(sums, messages)
			}
		})
	}
}

// One message beside none is what the rest of the longer one costs.
func BenchmarkAlone(b *testing.B) {
	x := noise(1, 64<<10)
	b.SetBytes(int64(len(x)))
	for b.Loop() {
		sum2(x, nil)
	}
}
