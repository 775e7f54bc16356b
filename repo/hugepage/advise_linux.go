package hugepage

import (
	"syscall"
	"unsafe"
)

// Advise asks for huge pages for all of buf, up to its capacity. What is touched of it is provided, and counted as memory of the process, by
// 2 MiB. buf should live long: the heap keeps the advice for what comes in its place. Where there are no huge pages, or
// none is free, and for what is short, it does nothing.
func Advise(buf []byte) {
	buf = buf[:cap(buf)]
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(buf))) % pageBytes)
	if whole := (len(buf) - skip) / pageBytes * pageBytes; whole > 0 {
		_ = syscall.Madvise(buf[skip:skip+whole], syscall.MADV_HUGEPAGE)
	}
}
