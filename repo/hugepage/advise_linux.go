package hugepage

import (
	"os"
	"syscall"
	"unsafe"
)

// Advise asks for huge pages for all of buf, up to its capacity. What is touched of it is provided, and counted as memory of the process, by
// 2 MiB. buf should live long: the heap keeps the advice for what comes in its place. Where there are no huge pages, or
// none is free, and for what is short, it does nothing.
func Advise(buf []byte) { advise(buf, pageBytes, syscall.MADV_HUGEPAGE) }

// Unprovide takes what the system has provided of buf, up to its capacity, out of memory again, until it is touched. buf must
// hold nothing but zeros, and does so afterwards: it was made just now, of memory that held something else before, and the
// heap has cleared it.
func Unprovide(buf []byte) { advise(buf, os.Getpagesize(), syscall.MADV_DONTNEED) }

// advise is about the whole aligned units of buf, up to its capacity.
func advise(buf []byte, unitBytes, advice int) {
	buf = buf[:cap(buf)]
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(buf))) % uintptr(unitBytes))
	if whole := (len(buf) - skip) / unitBytes * unitBytes; whole > 0 {
		_ = syscall.Madvise(buf[skip:skip+whole], advice)
	}
}
