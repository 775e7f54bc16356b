package seal

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
)

// guarded returns memory of n pages between two that must not be touched.
func guarded(t *testing.T, n int) []byte {
	page := syscall.Getpagesize()
	m, err := syscall.Mmap(-1, 0, (n+2)*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	for _, guard := range [][]byte{m[:page], m[(n+1)*page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return m[page : (n+1)*page]
}

// TestNothingBeyondIsTouched has plain and sealed bytes begin and end beside such memory.
func TestNothingBeyondIsTouched(t *testing.T) {
	var lengths []int
	for n := range 601 {
		lengths = append(lengths, n, n+4096)
	}
	plains, seals, opens := guarded(t, 2), guarded(t, 2), guarded(t, 2)
	for name, k := range ways(NewKey()) {
		for _, n := range lengths {
			for _, atEnd := range []bool{false, true} {
				part := func(m []byte, n int) []byte {
					if atEnd {
						return m[len(m)-n:]
					}
					return m[:n:n]
				}
				name := fmt.Sprintf("%s, %d bytes, at the end %v", name, n, atEnd)
				plain := part(plains, n)
				copy(plain, noise(9, n))
				sealed := k.Seal(part(seals, n+OverheadBytes)[:0], plain)
				if err := k.Verify(sealed, plain); err != nil {
					t.Fatalf("%s: verify: %v", name, err)
				}
				if got, err := k.Open(part(opens, n)[:0], sealed); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%s: open: %v", name, err)
				}
				if got, err := k.OpenInPlace(sealed); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%s: open in place: %v", name, err)
				}
			}
		}
	}
}
