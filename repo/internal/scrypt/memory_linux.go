package scrypt

import (
	"syscall"
	"unsafe"

	"vitrine/repo/hugepage"
)

// words returns zeroed memory, and what gives it back to the system at once: nobody needs it again, and the
// collector would count it for the size that the heap may grow to. In huge pages, where there are any, it
// takes 16 page faults rather than 8192 for the 32 MiB of a usual key.
func words(n int) ([]uint32, func()) {
	mapped, err := syscall.Mmap(-1, 0, 4*n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		return make([]uint32, n), func() {}
	}
	hugepage.Advise(mapped)
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(mapped))), n), func() {
		_ = syscall.Munmap(mapped) // it is ours: this cannot fail
	}
}
