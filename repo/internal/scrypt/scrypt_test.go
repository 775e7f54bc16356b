package scrypt

import (
	"encoding/hex"
	"fmt"
	"testing"

	"golang.org/x/crypto/scrypt"
)

// TestVectors are those of RFC 7914, section 12, but the last, which takes a gigabyte.
func TestVectors(t *testing.T) {
	tests := []struct {
		password, salt string
		n, r, p        int
		want           string
	}{
		{"", "", 16, 1, 1, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"},
		{"password", "NaCl", 1024, 8, 16, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"},
		{"pleaseletmein", "SodiumChloride", 16384, 8, 1, "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"},
	}
	for _, test := range tests {
		got, err := Key([]byte(test.password), []byte(test.salt), test.n, test.r, test.p, 64)
		if err != nil || hex.EncodeToString(got) != test.want {
			t.Errorf("N=%d r=%d p=%d: %x, %v, want %s", test.n, test.r, test.p, got, err, test.want)
		}
	}
}

// TestAgainstReference compares with another implementation over many costs.
func TestAgainstReference(t *testing.T) {
	for n := 2; n <= 1<<9; n *= 4 {
		for _, r := range []int{1, 2, 3, 8, 17} {
			for _, p := range []int{1, 2, 5} {
				password, salt := fmt.Appendf(nil, "password %d", n*r*p), fmt.Appendf(nil, "salt %d", p)
				want, err := scrypt.Key(password, salt, n, r, p, 64)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Key(password, salt, n, r, p, 64)
				if err != nil || string(got) != string(want) {
					t.Errorf("N=%d r=%d p=%d: %x, %v, want %x", n, r, p, got, err, want)
				}
			}
		}
	}
}

func BenchmarkKey(b *testing.B) {
	for range b.N {
		if _, err := Key([]byte("x"), []byte("salt"), 1<<15, 8, 5, 64); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReference(b *testing.B) {
	for range b.N {
		if _, err := scrypt.Key([]byte("x"), []byte("salt"), 1<<15, 8, 5, 64); err != nil {
			b.Fatal(err)
		}
	}
}
