package seal

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 what we compare with
)

// ways are a key as the processor at hand works with it best, and as one without vector registers does.
func ways(k *Key) map[string]*Key {
	plain := KeyFrom(k.Encrypt, k.MACK, k.MACR)
	plain.ciphers()
	plain.vectors = nil
	return map[string]*Key{"best": k, "plain": plain}
}

// reference seals with the implementations of others.
func reference(k *Key, iv, plain []byte) []byte {
	text := make([]byte, len(plain))
	encrypt, _ := k.ciphers()
	cipher.NewCTR(encrypt, iv).XORKeyStream(text, plain)
	return slicesOf(iv, text, macOf(k, iv, text))
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// compareWays seals, verifies and opens in each way, with the text at an address that is offset from an aligned one.
func compareWays(t *testing.T, k *Key, iv, plain []byte, offset int) {
	t.Helper()
	want := reference(k, iv, plain)
	n := len(plain)
	room := make([]byte, offset+len(want)+64)
	for name, k := range ways(k) {
		name = fmt.Sprintf("%s, %d bytes, IV %x, offset %d", name, n, iv, offset)
		clear(room)
		sealed := room[offset:][:len(want)]
		copy(sealed, iv)
		if k.seal(sealed, plain); !bytes.Equal(sealed, want) {
			t.Fatalf("%s: sealed other bytes", name)
		}
		if !bytes.Equal(room[offset+len(want):], make([]byte, 64)) {
			t.Fatalf("%s: bytes beyond the sealed ones were written", name)
		}
		if err := k.Verify(sealed, plain); err != nil {
			t.Fatalf("%s: verify: %v", name, err)
		}
		if got, err := k.Open(room[:0:0], sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%s: open: %v", name, err)
		}
		if got, err := k.OpenInPlace(sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%s: open in place: %v", name, err)
		}
	}
}

func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// TestWays compares for each length of a tail and of a piece.
func TestWays(t *testing.T) {
	t.Logf("AVX-512: %v, AVX2: %v; what the processor has not is not tested", newVectorKey(NewKey()) != nil, lanesWork)
	k, iv, plain := NewKey(), noise(1, ivBytes), noise(2, 3<<20)
	for n := range 601 {
		compareWays(t, k, iv, plain[n:2*n], n%64)
	}
	for _, near := range []int{4 << 10, 8 << 10, 64 << 10} {
		for n := near - 2; n <= near+2; n++ {
			compareWays(t, k, iv, plain[:n], n%64)
			compareWays(t, k, iv, plain[:n+256], n%64)
		}
	}
	for range 20 {
		compareWays(t, k, iv, plain[:rand.IntN(len(plain))], rand.IntN(64))
	}
	for offset := range 64 {
		compareWays(t, k, iv, plain[64-offset:][:700], offset)
		compareWays(t, k, iv, plain[:700], offset)
	}
}

// TestCounterOverflow has the counter overflow 32, 63, 64, 96 and 128 bits within the message, in its last block, and just not.
func TestCounterOverflow(t *testing.T) {
	k, plain := NewKey(), noise(3, 9<<10)
	for _, bits := range []int{32, 63, 64, 96, 128} {
		for before := range 70 {
			iv := noise(byte(bits), ivBytes)
			counter := new(big.Int).Lsh(big.NewInt(1), uint(bits))
			counter.Sub(counter, big.NewInt(int64(before))) // as many blocks before it overflows
			whole := counter.FillBytes(make([]byte, ivBytes+1))
			copy(iv[ivBytes-(bits+7)/8:], whole[1+ivBytes-(bits+7)/8:])
			for _, n := range []int{1, 16*before - 1, 16 * before, 16*before + 1, 16*before + 17, 1000, 4096, len(plain)} {
				compareWays(t, k, iv, plain[:max(n, 0)], 0)
			}
		}
	}
}

// TestVerifyFindsWhere has every byte differ, and both kinds of damage at the same time.
func TestVerifyFindsWhere(t *testing.T) {
	whole := noise(4, 9000)
	for name, k := range ways(NewKey()) {
		for _, n := range []int{1, 16, 255, 256, 257, 700, 4096, 4097, 9000} {
			plain := whole[:n]
			sealed := k.Seal(nil, plain)
			for at := 0; at < n; at += 1 + n/300 {
				plain[at] ^= 0x80
				err := k.Verify(sealed, plain)
				if !errors.Is(err, ErrDiffers) {
					t.Fatalf("%s, %d bytes: byte %d changed: %v", name, n, at, err)
				}
				var from int
				if _, err := fmt.Sscanf(err.Error(), "byte %d or one soon after it", &from); err != nil || at < from || at >= from+16<<10 {
					t.Fatalf("%s, %d bytes: byte %d changed, said to be byte %d or one soon after it", name, n, at, from)
				}
				plain[n-1] ^= 0x40 // the first place counts
				if again := k.Verify(sealed, plain); again == nil || again.Error() != err.Error() {
					t.Fatalf("%s, %d bytes: byte %d changed: %v, and with the last one %v", name, n, at, err, again)
				}
				plain[n-1] ^= 0x40
				for _, damaged := range []int{0, ivBytes + at, len(sealed) - 1} {
					sealed[damaged] ^= 1
					if err := k.Verify(sealed, plain); !errors.Is(err, ErrMAC) {
						t.Fatalf("%s, %d bytes: byte %d changed and sealed byte %d: %v", name, n, at, damaged, err)
					}
					sealed[damaged] ^= 1
				}
				plain[at] ^= 0x80
			}
		}
	}
}

// FuzzWays seals under any key and IV.
func FuzzWays(f *testing.F) {
	f.Add(make([]byte, 64), bytes.Repeat([]byte{0xff}, ivBytes), []byte("plain"), uint16(3), byte(1))
	f.Fuzz(func(t *testing.T, keys, iv, plain []byte, times uint16, offset byte) {
		keys, iv = append(keys, make([]byte, 64)...), append(iv, make([]byte, ivBytes)...)
		k := KeyFrom([32]byte(keys), [16]byte(keys[32:]), [16]byte(keys[48:]))
		compareWays(t, k, iv[:ivBytes], bytes.Repeat(plain[:min(len(plain), 1<<10)], int(times%64)), int(offset%64))
	})
}

// BenchmarkWays goes round in more memory than the caches hold.
func BenchmarkWays(b *testing.B) {
	const all = 64 << 20
	plain := noise(5, all)
	for _, n := range []int{256, 1 << 10, 16 << 10, 512 << 10, 1 << 20} {
		for name, k := range ways(NewKey()) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				sealed := make([]byte, 0, all+(all/n)*OverheadBytes)
				b.SetBytes(int64(n))
				at := 0
				for b.Loop() {
					if at == all {
						at, sealed = 0, sealed[:0]
					}
					start := len(sealed)
					sealed = k.Seal(sealed, plain[at:at+n])
					if err := k.Verify(sealed[start:], plain[at:at+n]); err != nil {
						b.Fatal(err)
					}
					at += n
				}
			})
		}
	}
}

// TestMACOfKeys has the limbs of the keys and of the text be most and least.
func TestMACOfKeys(t *testing.T) {
	ones := bytes.Repeat([]byte{0xff}, 10_000)
	for _, r := range [][]byte{make([]byte, 16), ones[:16], noise(6, 16)} {
		for name, k := range ways(KeyFrom([32]byte{1}, [16]byte{2}, [16]byte(r))) {
			for _, text := range [][]byte{ones, ones[:255], make([]byte, 10_000), noise(7, 10_000)} {
				iv := noise(8, ivBytes)
				o := k.oneTime(iv)
				var want [macBytes]byte
				poly1305.Sum(&want, text, &o.key)
				if _, err := k.check(slicesOf(iv, text, want[:])); err != nil {
					t.Errorf("%s, r %x, %d bytes: %v", name, r, len(text), err)
				}
				o.release()
			}
		}
	}
}
