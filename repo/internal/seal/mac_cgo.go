//go:build cgo && amd64

package seal

/*
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

// A number modulo 2^130-5 is five limbs of 26 bits, the least significant first. A limb may hold a few bits more
// until carry has passed.
typedef struct { uint64_t l[5]; } number;
typedef struct { __m256i l[5]; } lanes; // four numbers

// EACH_LIMB must be unrolled, or limbs live in memory.
#define EACH_LIMB(i) _Pragma("GCC unroll 5") for (int i = 0; i < 5; i++)

enum { mask26 = 0x3ffffff };

// block reads 16 bytes and sets the bit above them.
static number block(const uint8_t *p) {
	uint64_t lo, hi;
	memcpy(&lo, p, 8);
	memcpy(&hi, p + 8, 8);
	number n = {{lo & mask26, lo >> 26 & mask26, (lo >> 52 | hi << 12) & mask26, hi >> 14 & mask26, hi >> 40 | 1 << 24}};
	return n;
}

// carry makes limbs of 26 bits again; the second one may stay one bit longer.
static number carry(number n) {
	for (int i = 0; i < 4; i++) {
		n.l[i+1] += n.l[i] >> 26;
		n.l[i] &= mask26;
	}
	n.l[0] += (n.l[4] >> 26) * 5;
	n.l[4] &= mask26;
	n.l[1] += n.l[0] >> 26;
	n.l[0] &= mask26;
	return n;
}

static number multiply(number a, number b) {
	number n = {{0}};
	EACH_LIMB(i)
		EACH_LIMB(j)
			n.l[(i+j) % 5] += a.l[i] * b.l[j] * (i+j < 5 ? 1 : 5);
	return carry(n);
}

#define LANES __attribute__((target("avx2"), always_inline)) static inline

// factor is a number to multiply lanes by, with what the limbs give beyond 2^130.
typedef struct { __m256i l[5], five[5]; } factor;

LANES factor same(number n) {
	factor f;
	EACH_LIMB(i) {
		f.l[i] = _mm256_set1_epi64x(n.l[i]);
		f.five[i] = _mm256_set1_epi64x(n.l[i] * 5);
	}
	return f;
}

LANES factor each(number a, number b, number c, number d) {
	factor f;
	EACH_LIMB(i) {
		f.l[i] = _mm256_set_epi64x(d.l[i], c.l[i], b.l[i], a.l[i]);
		f.five[i] = _mm256_set_epi64x(d.l[i] * 5, c.l[i] * 5, b.l[i] * 5, a.l[i] * 5);
	}
	return f;
}

// blocks4 reads four blocks, into lanes 0, 2, 1 and 3.
LANES lanes blocks4(const uint8_t *p) {
	__m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)(p + 32));
	__m256i lo = _mm256_unpacklo_epi64(a, b), hi = _mm256_unpackhi_epi64(a, b), mask = _mm256_set1_epi64x(mask26);
	lanes n;
	n.l[0] = _mm256_and_si256(lo, mask);
	n.l[1] = _mm256_and_si256(_mm256_srli_epi64(lo, 26), mask);
	n.l[2] = _mm256_and_si256(_mm256_or_si256(_mm256_srli_epi64(lo, 52), _mm256_slli_epi64(hi, 12)), mask);
	n.l[3] = _mm256_and_si256(_mm256_srli_epi64(hi, 14), mask);
	n.l[4] = _mm256_or_si256(_mm256_srli_epi64(hi, 40), _mm256_set1_epi64x(1 << 24));
	return n;
}

// add adds a·f to n without a carry.
LANES lanes add(lanes n, lanes a, const factor *f) {
	EACH_LIMB(i)
		EACH_LIMB(j)
			n.l[(i+j) % 5] = _mm256_add_epi64(n.l[(i+j) % 5], _mm256_mul_epu32(a.l[i], i+j < 5 ? f->l[j] : f->five[j]));
	return n;
}

// carry4 makes limbs of at most 27 bits of such as are below 2^60.
LANES lanes carry4(lanes n) {
	__m256i mask = _mm256_set1_epi64x(mask26), c, d;
	c = _mm256_srli_epi64(n.l[0], 26), n.l[0] = _mm256_and_si256(n.l[0], mask), n.l[1] = _mm256_add_epi64(n.l[1], c);
	d = _mm256_srli_epi64(n.l[3], 26), n.l[3] = _mm256_and_si256(n.l[3], mask), n.l[4] = _mm256_add_epi64(n.l[4], d);
	c = _mm256_srli_epi64(n.l[1], 26), n.l[1] = _mm256_and_si256(n.l[1], mask), n.l[2] = _mm256_add_epi64(n.l[2], c);
	d = _mm256_srli_epi64(n.l[4], 26), n.l[4] = _mm256_and_si256(n.l[4], mask);
	n.l[0] = _mm256_add_epi64(n.l[0], _mm256_add_epi64(d, _mm256_slli_epi64(d, 2)));
	c = _mm256_srli_epi64(n.l[2], 26), n.l[2] = _mm256_and_si256(n.l[2], mask), n.l[3] = _mm256_add_epi64(n.l[3], c);
	d = _mm256_srli_epi64(n.l[0], 26), n.l[0] = _mm256_and_si256(n.l[0], mask), n.l[1] = _mm256_add_epi64(n.l[1], d);
	c = _mm256_srli_epi64(n.l[3], 26), n.l[3] = _mm256_and_si256(n.l[3], mask), n.l[4] = _mm256_add_epi64(n.l[4], c);
	return n;
}

// groups takes in n groups of eight blocks, at least one, from h = 0 on. Of lane k and of step t of n, the first four blocks
// are multiplied by r^(8(n-t)-k), the others by r^(8(n-t)-4-k): r^8 in each later step, then r^(4-k).
__attribute__((target("avx2"))) static number groups(const uint8_t *p, size_t n, number r) {
	number r2 = multiply(r, r), r3 = multiply(r2, r), r4 = multiply(r2, r2);
	factor by4 = same(r4), by8 = same(multiply(r4, r4)), last = each(r4, r2, r3, r);
	lanes zero, h = add(blocks4(p + 64), blocks4(p), &by4);
	for (size_t t = 1; t < n; t++) {
		p += 128;
		h = add(add(blocks4(p + 64), blocks4(p), &by4), carry4(h), &by8);
	}
	EACH_LIMB(i)
		zero.l[i] = _mm256_setzero_si256();
	h = carry4(add(zero, carry4(h), &last));
	number sum;
	EACH_LIMB(i) {
		uint64_t l[4];
		_mm256_storeu_si256((__m256i *)l, h.l[i]);
		sum.l[i] = l[0] + l[1] + l[2] + l[3];
	}
	return carry(sum);
}

// sum is Poly1305 of n bytes, at least 128.
static void sum(uint8_t *out, const uint8_t *p, size_t n, const uint8_t *key) {
	uint64_t lo, hi, s[2];
	memcpy(&lo, key, 8);
	memcpy(&hi, key + 8, 8);
	memcpy(s, key + 16, 16);
	lo &= 0x0ffffffc0fffffff, hi &= 0x0ffffffc0ffffffc;
	number r = {{lo & mask26, lo >> 26 & mask26, (lo >> 52 | hi << 12) & mask26, hi >> 14 & mask26, hi >> 40}};

	number h = groups(p, n / 128, r);
	p += n / 128 * 128, n %= 128;
	while (n > 0) {
		number m;
		if (n >= 16) {
			m = block(p), p += 16, n -= 16;
		} else {
			uint8_t end[16] = {0};
			memcpy(end, p, n);
			end[n] = 1; // the bit above them
			m = block(end), m.l[4] &= ~(uint64_t)(1 << 24), n = 0;
		}
		EACH_LIMB(i)
			m.l[i] += h.l[i];
		h = multiply(m, r);
	}
	h = carry(carry(h)); // below 2^130

	// h - p is h + 5 - 2^130: what is left of it below 2^130 counts if it is not negative.
	number g = h;
	g.l[0] += 5;
	for (int i = 0; i < 4; i++)
		g.l[i+1] += g.l[i] >> 26, g.l[i] &= mask26;
	uint64_t reduced = -(g.l[4] >> 26);
	EACH_LIMB(i)
		h.l[i] = (g.l[i] & reduced | h.l[i] & ~reduced) & mask26;

	unsigned __int128 t = (unsigned __int128)(h.l[0] | h.l[1] << 26 | h.l[2] << 52) + s[0];
	lo = t;
	hi = (h.l[2] >> 12 | h.l[3] << 14 | h.l[4] << 40) + s[1] + (uint64_t)(t >> 64);
	memcpy(out, &lo, 8);
	memcpy(out + 8, &hi, 8);
}

static int lanes_work(void) { return __builtin_cpu_supports("avx2"); }

#cgo noescape sum
#cgo nocallback sum
*/
import "C"

import "unsafe"

// lanesWork tells whether the processor, and the system with it, has AVX2.
var lanesWork = C.lanes_work() != 0

// sumLanes is sumMAC for at least 128 bytes.
func sumLanes(mac *[macBytes]byte, text []byte, key *[32]byte) {
	C.sum((*C.uint8_t)(&mac[0]), (*C.uint8_t)(unsafe.SliceData(text)), C.size_t(len(text)), (*C.uint8_t)(&key[0]))
}
