package seal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 what we compare with
)

// keys are those whose parts are most and least, and random ones.
func macKeys(random *rand.ChaCha8) [][32]byte {
	var zero, ones, large [32]byte
	for i := range ones {
		ones[i] = 0xff
	}
	copy(large[:16], ones[:]) // with nothing added in the end
	all := [][32]byte{zero, ones, large}
	for range 4 {
		var k [32]byte
		random.Read(k[:])
		all = append(all, k)
	}
	return all
}

// TestMAC compares with the other implementation: each length of a tail, and messages whose limbs are most and least.
func TestMAC(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 200<<10)
	random.Read(noise)
	messages := map[string][]byte{
		"noise": noise, "zeros": make([]byte, len(noise)), "ones": bytes.Repeat([]byte{0xff}, len(noise)),
		"near 2^130": bytes.Repeat(append([]byte{0xfb}, bytes.Repeat([]byte{0xff}, 15)...), len(noise)/16),
	}
	var lengths []int
	for n := range 1400 {
		lengths = append(lengths, n)
	}
	lengths = append(lengths, 64<<10, 64<<10+127, len(noise)-16)
	for name, m := range messages {
		for i, key := range macKeys(random) {
			for _, n := range lengths {
				compareMACs(t, fmt.Sprintf("%s, key %d", name, i), m[:n], &key)
			}
			compareMACs(t, name+", not aligned", m[3:], &key)
		}
	}
}

func compareMACs(t *testing.T, name string, m []byte, key *[32]byte) {
	t.Helper()
	var got, want [macBytes]byte
	poly1305.Sum(&want, m, key)
	sumMAC(&got, m, key)
	if got != want {
		t.Fatalf("%s: %d bytes: tag %x, want %x", name, len(m), got, want)
	}
	if lanesWork && len(m) >= 128 {
		if sumLanes(&got, m, key); got != want {
			t.Fatalf("%s: %d bytes in four lanes: tag %x, want %x", name, len(m), got, want)
		}
	}
	if !verifyMAC(&want, m, key) {
		t.Fatalf("%s: %d bytes: its tag is refused", name, len(m))
	}
	want[len(m)%macBytes] ^= 1 << (len(m) / macBytes % 8)
	if verifyMAC(&want, m, key) {
		t.Fatalf("%s: %d bytes: a wrong tag is taken", name, len(m))
	}
}

func FuzzMAC(f *testing.F) {
	f.Add([]byte("a key that is used for nothing els"), make([]byte, 300), uint16(4))
	f.Fuzz(func(t *testing.T, k, m []byte, times uint16) {
		var key [32]byte
		copy(key[:], k)
		compareMACs(t, "fuzz", bytes.Repeat(m, int(times%64)), &key)
	})
}

func BenchmarkMAC(b *testing.B) {
	for _, n := range []int{1 << 10, 4 << 10, 16 << 10, 1 << 20} {
		m := make([]byte, n)
		var key [32]byte
		key[1] = 1
		var tag [macBytes]byte
		for name, sum := range map[string]func(*[macBytes]byte, []byte, *[32]byte){"lanes": sumMAC, "x-crypto": poly1305.Sum} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					sum(&tag, m, &key)
				}
			})
		}
	}
}
