package hugepage

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// advised reports whether the mapping that holds address has the advice.
func advised(t *testing.T, address uintptr) bool {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			here = from <= address && address < to
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && here {
			return strings.Contains(flags+" ", " hg ")
		}
	}
	t.Fatalf("no mapping holds %#x", address)
	return false
}

// Whole aligned pages get the advice, and nothing around them.
func TestAdvise(t *testing.T) {
	_, err := os.Stat("/sys/kernel/mm/transparent_hugepage")
	system := err == nil
	const ordinary = 4 << 10
	for _, tc := range []struct{ skip, length, pages int }{
		{0, 0, 0}, {0, 1, 0}, {0, pageBytes - 1, 0}, {0, pageBytes, 1}, {ordinary, pageBytes, 0}, {ordinary, 2*pageBytes - ordinary, 1},
		{ordinary, 2*pageBytes - ordinary - 1, 0}, {ordinary, 3*pageBytes + ordinary, 2}, {7, 3*pageBytes - 7, 2},
	} {
		mapped, err := unix.Mmap(-1, 0, 6*pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		base := uintptr(unsafe.Pointer(unsafe.SliceData(mapped)))
		begin := int(-base % pageBytes)
		Advise(mapped[begin+tc.skip : begin+tc.skip : begin+tc.skip+tc.length])
		first := (tc.skip + pageBytes - 1) / pageBytes // page with the advice
		for page := range 4 {
			want := system && page >= first && page < first+tc.pages
			if got := advised(t, base+uintptr(begin+page*pageBytes)); got != want {
				t.Errorf("%d bytes from %d on: page %d has the advice: %v, want %v", tc.length, tc.skip, page, got, want)
			}
		}
		if err := unix.Munmap(mapped); err != nil {
			t.Fatal(err)
		}
	}
}
