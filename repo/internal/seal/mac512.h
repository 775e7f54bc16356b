// Poly1305 by AVX-512 IFMA: eight lanes, each of which takes every eighth block; see mac.go.

#include "quads.h"

// A number modulo 2^130-5 is limbs of 44, 44 and 42 bits, the least significant first. A limb may hold some bits more.
typedef struct { uint64_t l[3]; } number;
typedef struct { __m512i l[3]; } lanes; // eight numbers

static const uint64_t mask44 = (1ULL << 44) - 1, mask42 = (1ULL << 42) - 1;

#define EACH_LIMB(i) _Pragma("GCC unroll 3") for (int i = 0; i < 3; i++)

// A factor is eight numbers to multiply by; behind them limbs 1 and 2 times 20, which is what they give from 2^132 on.
typedef uint64_t factor[5][8];

struct powers {
	number r;
	factor by8, by16, last; // r^8 and r^16 in all lanes; r^8 to r^1, in the lanes where blocks8 has the first to the eighth block
};

// limbs are those of 128 bits.
INLINE number limbs(const uint64_t w[2]) {
	number n = {{w[0] & mask44, (w[0] >> 44 | w[1] << 20) & mask44, w[1] >> 24}};
	return n;
}

// multiply returns limbs of no more bits than they should have, but for the second, which may have one more. So may those of b
// have, and those of a up to 52 bits.
INLINE number multiply(number a, number b) {
	unsigned __int128 d[3] = {0};
	EACH_LIMB(i)
		EACH_LIMB(j)
			d[(i+j) % 3] += (unsigned __int128)a.l[i] * (b.l[j] * (i+j < 3 ? 1 : 20));
	d[1] += (uint64_t)(d[0] >> 44);
	d[2] += (uint64_t)(d[1] >> 44);
	uint64_t low = ((uint64_t)d[0] & mask44) + (uint64_t)(d[2] >> 42) * 5;
	number n = {{low & mask44, ((uint64_t)d[1] & mask44) + (low >> 44), (uint64_t)d[2] & mask42}};
	return n;
}

INLINE void set(factor f, int lane, number n) {
	EACH_LIMB(i) {
		f[i][lane] = n.l[i];
		if (i > 0)
			f[i+2][lane] = n.l[i] * 20;
	}
}

// raise makes the powers of r from the first half of a one-time key.
static void raise(struct powers *p, const uint8_t *key) {
	uint64_t w[2];
	memcpy(w, key, 16);
	w[0] &= 0x0ffffffc0fffffff, w[1] &= 0x0ffffffc0ffffffc;
	p->r = limbs(w);
	number power = p->r;
	for (int i = 1; i <= 16; i++, power = multiply(power, p->r)) {
		if (i <= 8)
			set(p->last, (8 - i) % 4 * 2 + (i <= 4), power);
		for (int lane = 0; lane < 8; lane++) {
			if (i == 8)
				set(p->by8, lane, power);
			if (i == 16)
				set(p->by16, lane, power);
		}
	}
}

VECTORS INLINE lanes zero(void) {
	lanes n;
	EACH_LIMB(i)
		n.l[i] = _mm512_setzero_si512();
	return n;
}

// blocks8 are those of two registers: 0 to 3 in lanes 0, 2, 4 and 6, and 4 to 7 in the others.
VECTORS INLINE lanes blocks8(__m512i a, __m512i b) {
	__m512i lo = _mm512_unpacklo_epi64(a, b), hi = _mm512_unpackhi_epi64(a, b), mask = _mm512_set1_epi64(mask44);
	lanes n;
	n.l[0] = lo & mask;
	n.l[1] = (_mm512_srli_epi64(lo, 44) | _mm512_slli_epi64(hi, 20)) & mask;
	n.l[2] = _mm512_srli_epi64(hi, 24) | _mm512_set1_epi64(1ULL << 40);
	return n;
}

// A product of 52 by 52 bits is its lower 52 bits and, in hi, those above them.
typedef struct { lanes lo, hi; } products;

// add adds a·f.
VECTORS INLINE products add(products p, lanes a, const factor f) {
	EACH_LIMB(i)
		EACH_LIMB(j) {
			__m512i b = _mm512_loadu_si512(f[i+j < 3 ? j : j+2]);
			p.lo.l[(i+j) % 3] = _mm512_madd52lo_epu64(p.lo.l[(i+j) % 3], a.l[i], b);
			p.hi.l[(i+j) % 3] = _mm512_madd52hi_epu64(p.hi.l[(i+j) % 3], a.l[i], b);
		}
	return p;
}

// carry makes limbs of at most 45 bits of two sums of products and a block.
VECTORS INLINE lanes carry(products p) {
	__m512i mask = _mm512_set1_epi64(mask44), c;
	lanes n = p.lo;
	n.l[1] += _mm512_srli_epi64(n.l[0], 44) + _mm512_slli_epi64(p.hi.l[0], 8), n.l[0] &= mask;
	n.l[2] += _mm512_srli_epi64(n.l[1], 44) + _mm512_slli_epi64(p.hi.l[1], 8), n.l[1] &= mask;
	c = _mm512_srli_epi64(n.l[2], 42) + _mm512_slli_epi64(p.hi.l[2], 10), n.l[2] &= _mm512_set1_epi64(mask42);
	n.l[0] += c + _mm512_slli_epi64(c, 2);
	n.l[1] += _mm512_srli_epi64(n.l[0], 44), n.l[0] &= mask;
	return n;
}

// absorb takes in sixteen blocks: after all of them each lane has r^8 or r^16 times what it had, and lacks a power of last.
VECTORS INLINE lanes absorb(lanes h, const struct powers *p, quad q) {
	products s = {blocks8(q.v[2], q.v[3]), zero()};
	return carry(add(add(s, blocks8(q.v[0], q.v[1]), p->by8), h, p->by16));
}

// finish takes in the last n bytes, and adds the second half of the one-time key.
VECTORS INLINE void finish(uint8_t *tag, lanes sums, const struct powers *powers, const uint8_t *p, size_t n, const uint8_t *key) {
	products none = {zero(), zero()};
	sums = carry(add(none, sums, powers->last));
	number h, g;
	EACH_LIMB(i)
		h.l[i] = _mm512_reduce_add_epi64(sums.l[i]);
	uint64_t w[2];
	while (n > 0) {
		uint64_t above = 1ULL << 40; // the bit above them
		if (n >= 16) {
			memcpy(w, p, 16), p += 16, n -= 16;
		} else {
			uint8_t end[16] = {0};
			memcpy(end, p, n);
			end[n] = 1, above = 0;
			memcpy(w, end, 16), n = 0;
		}
		g = limbs(w);
		EACH_LIMB(i)
			h.l[i] += g.l[i];
		h.l[2] += above;
		h = multiply(h, powers->r);
	}
	number one = {{1}};
	h = multiply(multiply(h, one), one); // below 2^130

	// h - p is h + 5 - 2^130: what is left of it below 2^130 counts if it is not negative.
	g = h;
	g.l[0] += 5;
	g.l[1] += g.l[0] >> 44, g.l[0] &= mask44;
	g.l[2] += g.l[1] >> 44, g.l[1] &= mask44;
	uint64_t reduced = -(g.l[2] >> 42);
	EACH_LIMB(i)
		h.l[i] = (g.l[i] & reduced) | (h.l[i] & ~reduced);
	h.l[2] &= mask42;

	memcpy(w, key, 16);
	unsigned __int128 t = (unsigned __int128)(h.l[0] | h.l[1] << 44) + w[0];
	w[0] = t;
	w[1] += (h.l[1] >> 20 | h.l[2] << 24) + (uint64_t)(t >> 64);
	memcpy(tag, w, 16);
}
