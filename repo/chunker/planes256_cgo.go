//go:build cgo && amd64

package chunker

/*
#include <immintrin.h>
#include <stdint.h>

#define TARGET __attribute__((target("avx2")))
#define WIDE __attribute__((target("avx2"), always_inline)) static inline

// Two steps written out take 1.03 times as long as one, and sixteen, for which the registers do not suffice, 1.7 times.
enum { streams = 32, unrolled = 1 };

typedef __m256i bytes;
typedef struct { uint8_t low[16], high[16]; } number; // the products of the four low bits of a byte, and of the high ones
typedef struct { bytes low, high; } factor; // has each twice

WIDE bytes twice(__m128i half) { return _mm256_broadcastsi128_si256(half); }

WIDE __m128i load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }

WIDE factor spread(number table) { return (factor){twice(load(table.low)), twice(load(table.high))}; }

WIDE bytes times(bytes a, factor table) {
	bytes four = _mm256_set1_epi8(0x0f);
	return _mm256_shuffle_epi8(table.low, a & four) ^ _mm256_shuffle_epi8(table.high, _mm256_srli_epi16(a, 4) & four);
}

WIDE bytes left3(bytes a) { return _mm256_slli_epi16(a, 3) & _mm256_set1_epi8(0xff << 3 & 0xff); }

WIDE bytes right5(bytes a) { return _mm256_srli_epi16(a, 5) & _mm256_set1_epi8(0xff >> 5); }

WIDE bytes sum(bytes a, bytes b, bytes c) { return a ^ b ^ c; }

WIDE bytes or_and(bytes a, bytes b, uint8_t mask) { return a | (b & _mm256_set1_epi8(mask)); }

WIDE bytes least(bytes a, bytes b) { return _mm256_min_epu8(a, b); }

WIDE uint64_t zeros(bytes a) { return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, _mm256_setzero_si256())); }

#include "planes.h"

TARGET static void transpose(bytes *columns, const uint8_t *p, size_t stride) {
	// A quarter of the rows is two squares of 16 bytes of 16 streams, one in each half of the registers. The place of a byte in
	// its square is eight bits, and four rounds of interleaving exchange their halves as with 64 streams.
	for (int l = 0; l < 4; l++, p += 16) {
		bytes a[16], b[16];
		EACH(s, 16)
			a[s] = _mm256_set_m128i(load(p + (s + 16) * stride), load(p + s * stride));
		EACH(round, 4) {
			EACH(i, 8) {
				b[2*i] = _mm256_unpacklo_epi8(a[i], a[i+8]);
				b[2*i+1] = _mm256_unpackhi_epi8(a[i], a[i+8]);
			}
			EACH(i, 16)
				a[i] = b[i];
		}
		EACH(i, 16)
			columns[16*l+i] = a[i];
	}
}

static size_t skip256(const uint8_t *window, size_t n, const void *m) { return skip(window, n, m); }

static int works256(void) { return __builtin_cpu_supports("avx2"); }

#cgo noescape skip256
#cgo nocallback skip256
*/
import "C"

import "unsafe"

// works256 tells whether the processor, and the system with it, looks up each byte of a register of 32 in a table of 16.
var works256 = C.works256() != 0

// table has the products that matrix makes, of the four low bits of a byte alone and of the four high ones.
type table struct{ low, high [16]uint8 }

func newTable(plane int, of func(b int) uint64) (t table) {
	for v := range 16 {
		t.low[v] = uint8(of(v) << 3 >> (8 * plane))
		t.high[v] = uint8(of(v<<4) << 3 >> (8 * plane))
	}
	return t
}

// skip256 is skip512 with 32 streams.
func (c *Chunker) skip256(p []byte, from int) int {
	n := C.skip256((*C.uint8_t)(&p[from-windowBytes]), C.size_t(len(p)-from), unsafe.Pointer(&c.factors.tables))
	return from + int(n)
}
