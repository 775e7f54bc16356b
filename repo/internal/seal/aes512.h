// AES-256 in counter mode by VAES: four blocks in a register, sixteen at a time.

#include "quads.h"

struct schedule { __m128i_u round[15]; };

// FORGET_KEYS stands in each loop, so that keys are read from where they are each time. With a register too few they would be
// copied to the stack, and stay there.
#define FORGET_KEYS __asm__ volatile("" ::: "memory")

INLINE __m128i fold(__m128i k) {
	k ^= _mm_slli_si128(k, 4);
	return k ^ _mm_slli_si128(k, 8);
}

// expand is the key expansion of FIPS 197, section 5.2. The instruction wants the round's constant when it is compiled, so
// it gets 0 and the constant is added behind it.
VECTORS static void expand(struct schedule *s, const uint8_t *key) {
	__m128i a = _mm_loadu_si128((const __m128i *)key), b = _mm_loadu_si128((const __m128i *)(key + 16));
	s->round[0] = a, s->round[1] = b;
	for (int i = 2; i < 15; i += 2) {
		a = fold(a) ^ _mm_shuffle_epi32(_mm_aeskeygenassist_si128(b, 0), 0xff) ^ _mm_set1_epi32(1 << (i/2 - 1));
		s->round[i] = a;
		if (i < 14)
			s->round[i+1] = b = fold(b) ^ _mm_shuffle_epi32(_mm_aeskeygenassist_si128(a, 0), 0xaa);
	}
}

// reversed has the bytes of each block from the last to the first.
VECTORS INLINE __m512i reversed(__m512i v) {
	return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

// counters are those of the first four blocks, reversed. They are added to without a carry from their lower half, and not by +,
// which is for signed numbers and undefined beyond 2^63.
VECTORS INLINE __m512i counters(const uint8_t *iv) {
	__m512i first = reversed(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)iv)));
	return _mm512_add_epi64(first, _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0));
}

// crypt encrypts or decrypts sixteen blocks, and moves the counters on.
VECTORS INLINE quad crypt(const struct schedule *s, __m512i *count, quad q) {
	quad k;
	__m512i key = _mm512_broadcast_i32x4(s->round[0]);
	EACH_QUARTER(i) {
		k.v[i] = reversed(*count) ^ key;
		*count = _mm512_add_epi64(*count, _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4));
	}
	_Pragma("GCC unroll 13") for (int r = 1; r < 14; r++) {
		key = _mm512_broadcast_i32x4(s->round[r]);
		EACH_QUARTER(i)
			k.v[i] = _mm512_aesenc_epi128(k.v[i], key);
	}
	key = _mm512_broadcast_i32x4(s->round[14]);
	EACH_QUARTER(i)
		q.v[i] ^= _mm512_aesenclast_epi128(k.v[i], key);
	return q;
}
