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

// Whole pages leave memory and hold zeros when they come back; what lies around them stays.
func TestUnprovide(t *testing.T) {
	page := os.Getpagesize()
	for _, tc := range []struct{ skip, length, first, pages int }{
		{0, 0, 0, 0}, {0, page - 1, 0, 0}, {0, page, 0, 1}, {1, page, 1, 0}, {1, 3*page - 1, 1, 2}, {page, 3 * page, 1, 3},
	} {
		mapped, err := unix.Mmap(-1, 0, 6*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		for i := range mapped {
			mapped[i] = 1
		}
		Unprovide(mapped[tc.skip : tc.skip : tc.skip+tc.length])
		present := make([]byte, 6)
		if _, _, err := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(len(mapped)), uintptr(unsafe.Pointer(&present[0]))); err != 0 {
			t.Fatal(err)
		}
		for i := range present {
			gone := i >= tc.first && i < tc.first+tc.pages
			if is := present[i]&1 != 0; is == gone {
				t.Errorf("%d bytes from %d on: page %d is in memory: %v", tc.length, tc.skip, i, is)
			}
			if zero := mapped[i*page] == 0; zero != gone {
				t.Errorf("%d bytes from %d on: page %d begins with %d", tc.length, tc.skip, i, mapped[i*page])
			}
		}
		if err := unix.Munmap(mapped); err != nil {
			t.Fatal(err)
		}
	}
}
