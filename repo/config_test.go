package repo

import (
	"bytes"
	"errors"
	"testing"

	"vitrine/repo/internal/compress"
)

// FuzzConfig: any plain text is either a usable configuration or an error of a known class.
func FuzzConfig(f *testing.F) {
	const id = "a3f1c1d2e4b5968778695a4b3c2d1e0fa3f1c1d2e4b5968778695a4b3c2d1e0f"
	f.Add([]byte(`{"version":2,"id":"` + id + `","chunker_polynomial":"3da3358b4dc173"}`))
	f.Add([]byte(`{"version":3,"id":"` + id + `","chunker_polynomial":"3da3358b4dc173"}`))
	f.Add([]byte(`{"version":1,"id":"","chunker_polynomial":"0"}`))
	f.Add([]byte(`{"version":2,"id":"` + id + `","chunker_polynomial":"7"}`)) // irreducible, of degree 2
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		c, err := parseConfig(plain)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		if c.Version < MinVersion || c.Version > MaxVersion || len(c.ID) != 64 || c.Polynomial.Check() != nil {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// FuzzUnmark: the plain text of a sealed file, compressed or not, never makes unmark panic.
func FuzzUnmark(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add(compress.New(compress.Auto).CompressAlways([]byte{zstdMark}, []byte(`{"a":1}`)))
	f.Add([]byte{zstdMark})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		out, err := unmark(plain)
		if err == nil && len(plain) > 0 && plain[0] == '{' && !bytes.Equal(out, plain) {
			t.Fatal("plain JSON was changed")
		}
	})
}
