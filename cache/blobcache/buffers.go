package blobcache

import "math/bits"

const (
	// classSteps is how many capacities there are between a power of two and the next.
	// More waste less of each buffer, and find a used one that fits less often.
	classSteps = 8
	// classesUp is how many capacities above the right one a used buffer may be of.
	classesUp = 3
	// minClassBytes is the smallest capacity.
	minClassBytes = 8 << 10
)

// buffers hands out byte slices and takes them back. A new megabyte costs as much as decrypting it
// does: the system clears its pages, the program clears them again, and the garbage collector has to
// come by. Not safe for parallel use.
type buffers struct {
	free       map[int][][]byte // by capacity; the one last used is used next
	freeBytes  int64
	totalBytes int64 // of all that were made and not forgotten: free and in use
}

// classBytes returns the capacity of the buffer that n bytes get, and the step to the next one.
func classBytes(n int) (capacity, step int) {
	n = max(n, minClassBytes)
	step = 1 << (bits.Len(uint(n-1)) - 1) / classSteps
	return (n + step - 1) / step * step, step
}

// take returns a free buffer for n bytes, nil when there is none.
func (b *buffers) take(n int) []byte {
	capacity, _ := classBytes(n)
	for range classesUp {
		if list := b.free[capacity]; len(list) > 0 {
			p := list[len(list)-1]
			list[len(list)-1] = nil
			b.free[capacity] = list[:len(list)-1]
			b.freeBytes -= int64(capacity)
			return p
		}
		capacity, _ = classBytes(capacity + 1)
	}
	return nil
}

// count enters a buffer of n bytes that the caller is going to make, and returns its capacity.
// Making it takes long, and needs no lock.
func (b *buffers) count(n int) int {
	capacity, _ := classBytes(n)
	b.totalBytes += int64(capacity)
	return capacity
}

// fits tells whether take has a buffer for n bytes.
func (b *buffers) fits(n int) bool {
	capacity, _ := classBytes(n)
	for range classesUp {
		if len(b.free[capacity]) > 0 {
			return true
		}
		capacity, _ = classBytes(capacity + 1)
	}
	return false
}

// give takes a buffer back. One that others made, of any capacity, is forgotten.
func (b *buffers) give(p []byte) {
	if capacity, _ := classBytes(cap(p)); capacity != cap(p) {
		b.totalBytes -= int64(cap(p))
		return
	}
	if b.free == nil {
		b.free = make(map[int][][]byte)
	}
	b.free[cap(p)] = append(b.free[cap(p)], p[:0])
	b.freeBytes += int64(cap(p))
}

// forget leaves free buffers of at least so many bytes to the garbage collector; false when there
// are not enough.
func (b *buffers) forget(bytes int64) bool {
	for capacity, list := range b.free {
		for len(list) > 0 && bytes > 0 {
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			bytes -= int64(capacity)
			b.freeBytes -= int64(capacity)
			b.totalBytes -= int64(capacity)
		}
		if b.free[capacity] = list; len(list) == 0 {
			delete(b.free, capacity)
		}
		if bytes <= 0 {
			break
		}
	}
	return bytes <= 0
}
