// What the passes by AVX-512 share: text is taken 256 bytes at a time, sixteen blocks of AES or of Poly1305.

#ifndef QUADS_H
#define QUADS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VECTORS __attribute__((target("avx512f,avx512bw,avx512ifma,vaes,aes,bmi2")))
#define INLINE __attribute__((always_inline)) static inline

typedef struct { __m512i v[4]; } quad;

// EACH_QUARTER must be unrolled, or quads live in memory.
#define EACH_QUARTER(i) _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)

// some is the mask of those of 64 bytes at an offset that are among the first n.
VECTORS INLINE __mmask64 some(size_t n, size_t offset) {
	return n <= offset ? 0 : _bzhi_u64(-1, n - offset < 64 ? n - offset : 64);
}

// load reads n bytes, at most 256 and none beyond them, and zeros.
VECTORS INLINE quad load(const uint8_t *p, size_t n) {
	quad q;
	EACH_QUARTER(i)
		q.v[i] = n == 256 ? _mm512_loadu_si512(p + 64*i) : _mm512_maskz_loadu_epi8(some(n, 64*i), p + 64*i);
	return q;
}

// store writes the first n bytes.
VECTORS INLINE void store(uint8_t *p, quad q, size_t n) {
	EACH_QUARTER(i)
		if (n == 256)
			_mm512_storeu_si512(p + 64*i, q.v[i]);
		else
			_mm512_mask_storeu_epi8(p + 64*i, some(n, 64*i), q.v[i]);
}

// differ tells whether the first n bytes do.
VECTORS INLINE int differ(quad a, quad b, size_t n) {
	__mmask64 m = 0;
	if (n == 256) {
		__m512i d = (a.v[0] ^ b.v[0]) | (a.v[1] ^ b.v[1]) | (a.v[2] ^ b.v[2]) | (a.v[3] ^ b.v[3]);
		return _mm512_test_epi64_mask(d, d) != 0;
	}
	EACH_QUARTER(i)
		m |= _mm512_mask_cmpneq_epi8_mask(some(n, 64*i), a.v[i], b.v[i]);
	return m != 0;
}

#endif
