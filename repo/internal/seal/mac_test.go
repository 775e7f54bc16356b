package seal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
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

// TestMACAtItsEdges has the vectors 5 to 11 of RFC 8439, appendix A.3, where the sum is near 2^130-5 or a limb is full.
func TestMACAtItsEdges(t *testing.T) {
	const f, zeros = "ffffffffffffffffffffffffffffffff", "00000000000000000000000000000000"
	one, two := "01"+zeros[2:], "02"+zeros[2:]
	r := "01000000000000000400000000000000"
	three := "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000" + zeros
	tests := []struct{ key, message, mac string }{
		{two + zeros, f, "03" + zeros[2:]},
		{two + f, two, "03" + zeros[2:]},
		{one + zeros, f + "f0" + f[2:] + "11" + zeros[2:], "05" + zeros[2:]},
		{one + zeros, f + "fb" + strings.Repeat("fe", 15) + strings.Repeat("01", 16), zeros},
		{two + zeros, "fd" + f[2:], "fa" + f[2:]},
		{r + zeros, three + one, "14000000000000005500000000000000"},
		{r + zeros, three, "13" + zeros[2:]},
		// Sixteen blocks of which the two lower limbs of 44 bits are full, until the bits above 2^130 carry through both.
		{one + zeros, strings.Repeat("ff", 11) + zeros[:10] + zeros[:22] + "01" + zeros[:8] + strings.Repeat(zeros, 14),
			"13" + zeros[:20] + "02" + zeros[:8]},
	}
	for i, tt := range tests {
		key, m := [32]byte(unhex(t, tt.key)), unhex(t, tt.message)
		var mac [macBytes]byte
		if sumMAC(&mac, m, &key); hex.EncodeToString(mac[:]) != tt.mac {
			t.Errorf("vector %d: tag %x, want %s", i, mac, tt.mac)
		}
		compareMACs(t, fmt.Sprint("vector ", i), m, &key)
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
	if v := newVectorKey(KeyFrom([32]byte{}, [16]byte{}, [16]byte(key[:]))); v != nil {
		if v.sumMAC(&got, m, key); got != want {
			t.Fatalf("%s: %d bytes in eight lanes: tag %x, want %x", name, len(m), got, want)
		}
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
