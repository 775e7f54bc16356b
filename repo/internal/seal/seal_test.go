package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 the format fixes it
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The vectors are those of the Poly1305-AES paper (D. J. Bernstein, 2005, appendix B): the
// one-time key is made of r, k and n as here. Sealed bytes are their message behind the IV.
func TestPoly1305AESVectors(t *testing.T) {
	tests := []struct{ message, r, k, n, mac string }{
		{"f3f6", "851fc40c3467ac0be05cc20404f3f700", "ec074c835580741701425b623235add6",
			"fb447350c4e868c52ac3275cf9d4327e", "f4c633c3044fc145f84f335cb81953de"},
		{"", "a0f3080000f46400d0c7e9076c834403", "75deaa25c09f208e1dc4ce6b5cad3fbf",
			"61ee09218d29b0aaed7e154a2c5509cc", "dd3fab2251f11ac759f0887129cc2ee7"},
		{"663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136",
			"48443d0bb0d21109c89a100b5ce2c208", "6acb5f61a7176dd320c5c1eb2edcdc74",
			"ae212a55399729595dea458bc621ff0e", "0ee1c16bb73f0f4fd19881753c01cdbe"},
	}
	for i, tt := range tests {
		k := NewKey()
		copy(k.MACR[:], unhex(t, tt.r))
		copy(k.MACK[:], unhex(t, tt.k))
		sealed := unhex(t, tt.n+tt.message+tt.mac)
		plain, err := k.Open(nil, sealed)
		if err != nil || len(plain) != len(tt.message)/2 {
			t.Errorf("vector %d: %d bytes, error %v", i, len(plain), err)
		}
	}
}

// The AES-256-CTR vector F.5.5 of NIST SP 800-38A.
func TestCTRVector(t *testing.T) {
	iv := unhex(t, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
	text := unhex(t, "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"+
		"2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6")
	want := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"+
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	key := [32]byte(unhex(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
	for name, k := range ways(KeyFrom(key, [16]byte{}, [16]byte{})) {
		sealed := append(bytes.Clone(iv), text...)
		mac := macOf(k, iv, text)
		got, err := k.Open(nil, append(sealed, mac...))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: opened %x, error %v; want %x", name, got, err, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	k := NewKey()
	for _, n := range []int{0, 1, 15, 16, 17, 4095, 4096, 1 << 20} {
		plain := bytes.Repeat([]byte{0x5a}, n)
		prefix := []byte("before")
		sealed := k.Seal(bytes.Clone(prefix), plain)
		if len(sealed) != len(prefix)+n+OverheadBytes || !bytes.HasPrefix(sealed, prefix) {
			t.Fatalf("%d bytes: sealed %d bytes", n, len(sealed))
		}
		sealed = sealed[len(prefix):]
		got, err := k.Open(bytes.Clone(prefix), sealed)
		if err != nil || !bytes.Equal(got, append(bytes.Clone(prefix), plain...)) {
			t.Errorf("%d bytes: open: %v", n, err)
		}
		// A second key made of the same parts is the same key.
		got, err = KeyFrom(k.Encrypt, k.MACK, k.MACR).OpenInPlace(sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: open in place: %v", n, err)
		}
	}
	if bytes.Equal(k.Seal(nil, []byte("x")), k.Seal(nil, []byte("x"))) {
		t.Error("sealing twice gave the same bytes: the IV is not fresh")
	}
}

func TestDamageIsAnError(t *testing.T) {
	for name, k := range ways(NewKey()) {
		t.Run(name, func(t *testing.T) { testDamage(t, k) })
	}
}

func testDamage(t *testing.T, k *Key) {
	sealed := k.Seal(nil, []byte("forty-two"))
	reject := func(what string, p []byte) {
		t.Helper()
		before := bytes.Clone(p)
		dst := []byte("kept")
		got, err := k.Open(dst, p)
		if !errors.Is(err, ErrMAC) || string(got) != "kept" {
			t.Errorf("%s: open: %q, error %v", what, got, err)
		}
		if _, err := k.OpenInPlace(p); !errors.Is(err, ErrMAC) {
			t.Errorf("%s: open in place: error %v", what, err)
		}
		if !bytes.Equal(p, before) {
			t.Errorf("%s: the sealed bytes were changed", what)
		}
	}
	for i := range len(sealed) * 8 {
		p := bytes.Clone(sealed)
		p[i/8] ^= 1 << (i % 8)
		reject(fmt.Sprintf("bit %d flipped", i), p)
	}
	for n := range len(sealed) {
		reject(fmt.Sprintf("cut to %d", n), sealed[:n:n])
	}
	reject("a byte more", append(bytes.Clone(sealed), 0))
	reject("another key", NewKey().Seal(nil, []byte("forty-two")))
}

func TestIVIsNeverZero(t *testing.T) {
	draws := 0
	iv := make([]byte, ivBytes)
	fillIV(iv, func(p []byte) {
		clear(p)
		if draws++; draws == 3 {
			p[15] = 1
		}
	})
	if draws != 3 {
		t.Errorf("%d draws, want 3: two all-zero IVs must be thrown away", draws)
	}
}

func TestParallel(t *testing.T) {
	k := NewKey()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			plain := bytes.Repeat([]byte{byte(i)}, 1000+i)
			for range 50 {
				got, err := k.OpenInPlace(k.Seal(nil, plain))
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("goroutine %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{512, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k, plain := NewKey(), make([]byte, n)
			buf := make([]byte, 0, n+OverheadBytes)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				buf = k.Seal(buf[:0], plain)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{512, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := NewKey()
			sealed := k.Seal(nil, make([]byte, n))
			buf := make([]byte, 0, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = k.Open(buf[:0], sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// macOf seals by hand: the MAC of text under an IV of the test's choice.
func macOf(k *Key, iv, text []byte) []byte {
	t := k.oneTime(iv)
	defer t.release()
	poly1305.Sum(&t.mac, text, &t.key)
	return bytes.Clone(t.mac[:])
}

func TestVerify(t *testing.T) {
	k := NewKey()
	for _, n := range []int{0, 1, 63, 16 << 10, 16<<10 + 1, 50_000} {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(i * 7)
		}
		sealed := k.Seal(nil, plain)
		if err := k.Verify(sealed, plain); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		for at := range len(sealed) {
			if n > 100 && at%977 != 0 {
				continue
			}
			sealed[at] ^= 4
			if err := k.Verify(sealed, plain); !errors.Is(err, ErrMAC) {
				t.Errorf("%d bytes, sealed byte %d changed: %v", n, at, err)
			}
			sealed[at] ^= 4
		}
		for at := range len(plain) {
			if n > 100 && at%977 != 0 && at != n-1 {
				continue
			}
			plain[at] ^= 4
			if err := k.Verify(sealed, plain); !errors.Is(err, ErrDiffers) {
				t.Errorf("%d bytes, plain byte %d changed: %v", n, at, err)
			}
			plain[at] ^= 4
		}
		if err := k.Verify(sealed, append(plain, 0)); !errors.Is(err, ErrDiffers) {
			t.Errorf("%d bytes and one more: %v", n, err)
		}
	}
}
