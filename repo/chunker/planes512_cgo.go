//go:build cgo && amd64

package chunker

/*
#include <immintrin.h>
#include <stdint.h>

#define TARGET __attribute__((target("avx512f,avx512bw,gfni")))
#define WIDE __attribute__((target("avx512f,avx512bw,gfni"), always_inline)) static inline

enum { streams = 64, unrolled = 16 };

typedef __m512i bytes;
typedef uint64_t number;
typedef bytes factor; // has the matrix eight times

WIDE factor spread(number matrix) { return _mm512_set1_epi64(matrix); }

WIDE bytes times(bytes a, factor matrix) { return _mm512_gf2p8affine_epi64_epi8(a, matrix, 0); }

// ONE is the matrix that changes nothing: its rows stand in the order of a byte's bits, the highest first.
#define ONE 0x0102040810204080ull

WIDE bytes left3(bytes a) { return times(a, spread(ONE >> 8*3)); }

WIDE bytes right5(bytes a) { return times(a, spread(ONE << 8*5)); }

WIDE bytes sum(bytes a, bytes b, bytes c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }

WIDE bytes or_and(bytes a, bytes b, uint8_t mask) { return _mm512_ternarylogic_epi64(a, b, _mm512_set1_epi8(mask), 0xf8); }

WIDE bytes least(bytes a, bytes b) { return _mm512_min_epu8(a, b); }

WIDE uint64_t zeros(bytes a) { return _mm512_testn_epi8_mask(a, a); }

#include "planes.h"

TARGET static void transpose(bytes *columns, const uint8_t *p, size_t stride) {
	bytes quarters[4][16]; // quarters[l][s] is the quarter l of the rows s, s+16, s+32 and s+48
	for (int s = 0; s < 16; s++) {
		const uint8_t *q = p + s * stride;
		bytes a = _mm512_loadu_si512(q), b = _mm512_loadu_si512(q + 16 * stride);
		bytes c = _mm512_loadu_si512(q + 32 * stride), d = _mm512_loadu_si512(q + 48 * stride);
		bytes ab = _mm512_shuffle_i32x4(a, b, 0x44), cd = _mm512_shuffle_i32x4(c, d, 0x44);
		quarters[0][s] = _mm512_shuffle_i32x4(ab, cd, 0x88);
		quarters[1][s] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
		ab = _mm512_shuffle_i32x4(a, b, 0xee), cd = _mm512_shuffle_i32x4(c, d, 0xee);
		quarters[2][s] = _mm512_shuffle_i32x4(ab, cd, 0x88);
		quarters[3][s] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
	}
	// The place of a byte is now eight bits, four for s and four for the byte in its quarter. A round of interleaving
	// rotates them by one, so four rounds exchange the two halves.
	for (int l = 0; l < 4; l++) {
		bytes a[16], b[16];
		EACH(i, 16)
			a[i] = quarters[l][i];
		EACH(round, 4) {
			EACH(i, 8) {
				b[2*i] = _mm512_unpacklo_epi8(a[i], a[i+8]);
				b[2*i+1] = _mm512_unpackhi_epi8(a[i], a[i+8]);
			}
			EACH(i, 16)
				a[i] = b[i];
		}
		EACH(i, 16)
			columns[16*l+i] = a[i];
	}
}

static size_t skip512(const uint8_t *window, size_t n, const uint64_t *m) { return skip(window, n, (const numbers *)m); }

static int works512(void) {
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("gfni");
}

#cgo noescape skip512
#cgo nocallback skip512
*/
import "C"

// works512 tells whether the processor, and the system with it, multiplies each byte of a register of 64 by a matrix of bits.
var works512 = C.works512() != 0

// matrix is that which gives the plane of what a byte adds to a fingerprint, which of says. The processor wants a row of the
// matrix, which makes one bit of the product, in each byte, that of the highest bit first.
func matrix(plane int, of func(b int) uint64) (m uint64) {
	for bit := range 8 {
		product := uint8(of(1<<bit) << 3 >> (8 * plane))
		for row := range 8 {
			m |= uint64(product>>row&1) << (8*(7-row) + bit)
		}
	}
	return m
}

// skip512 returns an index at or after from with no cut before it. Either one follows within a row of 64 bytes, or fewer bytes
// are left than the shortest block of 64 streams has.
func (c *Chunker) skip512(p []byte, from int) int {
	n := C.skip512((*C.uint8_t)(&p[from-windowBytes]), C.size_t(len(p)-from), (*C.uint64_t)(&c.factors.matrices[0]))
	return from + int(n)
}
