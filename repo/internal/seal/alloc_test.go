//go:build !race

// The race detector empties pools at random, so allocations are counted without it.

package seal

import "testing"

// The standard library allocates the CTR stream; nothing else may be allocated per message.
func TestAllocations(t *testing.T) {
	k := NewKey()
	plain := make([]byte, 10_000)
	buf := make([]byte, 0, len(plain)+OverheadBytes)
	if n := testing.AllocsPerRun(100, func() { buf = k.Seal(buf[:0], plain) }); n > 1 {
		t.Errorf("Seal: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { plain, _ = k.Open(plain[:0], buf) }); n > 1 {
		t.Errorf("Open: %v allocations", n)
	}
}
