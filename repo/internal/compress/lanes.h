// The sequences of up to eight blocks of a zstd frame (RFC 8878) decoded beside each other, for frame.h: each block in a lane of
// AVX-512 registers.
//
// A decoder of sequences waits for itself: where the next bits are it knows from the state before. The blocks of a frame are
// independent, but for the last three offsets, which a block takes over from the one before it. These are placeholders here.

#include "entropy.h"

#define FEATURES512 "avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2"
#define TARGET512 __attribute__((target(FEATURES512)))
#define INLINE512 __attribute__((target(FEATURES512), always_inline)) static inline

// ableLanes reports whether this processor has them all.
static inline int ableLanes(void) {
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}

enum {
	lanes = 8,
	blockMost = 128 << 10,         // plain bytes of a block
	sequencesMost = blockMost / 3, // of a block: each has a match of three bytes at least
	slack = 64,                    // bytes behind literals that are read, and behind what is put that are written

	// A sequence that is decoded has from the lowest bit on the length of its run, that of its match, and its offset.
	runBits = 17, matchBits = 18,
};

// contentMost is how many bytes content has at most that is decoded like this. Greater offsets are placeholders: TAKEN(k) for the k-th
// of those from before the block, less what sequences subtracted from it, one each at most.
#define contentMost ((uint64_t)1 << 28)
#define takenStep ((uint64_t)1 << 26)
#define TAKEN(k) (contentMost + ((k) + 1) * takenStep)

// A compressed block.
typedef struct {
	size_t sequences;
	bits bits;                 // of these
	const table *ll, *of, *ml; // that these use
	uint64_t llAt, ofAt, mlAt; // the first states
	const uint8_t *literals;   // that are not compared yet; slack more bytes may be read
	size_t literalsLeft;

	table own[3];                       // those that it brings
	uint8_t decoded[blockMost + slack]; // literals, if they are not used where they are in the frame

	// What decodeLanes makes.
	uint64_t runBytes, matchBytes; // of all of its sequences
	uint64_t reps[3];              // the last three offsets
	uint64_t list[sequencesMost + lanes];
} block;

INLINE512 __m512i each(uint64_t v) { return _mm512_set1_epi64(v); }

// windows is window for each lane in the mask.
INLINE512 __m512i windows(const uint8_t *base, __m512i at, __mmask8 mask) {
	__m512i bytes = _mm512_srli_epi64(_mm512_add_epi64(at, each(7)), 3);
	__m512i w = _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), mask, bytes, base - 8, 1);
	return _mm512_sllv_epi64(w, _mm512_and_si512(_mm512_sub_epi64(_mm512_setzero_si512(), at), each(7)));
}

// tops is top for each lane: its n top bits; n is modulo 64. without is w without them.
INLINE512 __m512i tops(__m512i w, __m512i n) { return _mm512_shldv_epi64(_mm512_setzero_si512(), w, n); }
INLINE512 __m512i without(__m512i w, __m512i n) { return _mm512_shldv_epi64(w, _mm512_setzero_si512(), n); }

// transpose stores the k-th word of each of eight vectors at to[k].
INLINE512 void transpose(const __m512i *v, uint64_t *const *to, __mmask8 mask) {
	__m512i a[8], b[8];
	for (int i = 0; i < 8; i += 2) {
		a[i] = _mm512_unpacklo_epi64(v[i], v[i+1]);
		a[i+1] = _mm512_unpackhi_epi64(v[i], v[i+1]);
	}
	for (int i = 0; i < 8; i++) {
		int j = i & 5; // of i and i + 2
		b[i] = i & 2 ? _mm512_shuffle_i64x2(a[j], a[j+2], 0xdd) : _mm512_shuffle_i64x2(a[j], a[j+2], 0x88);
	}
	// b[0] has words 0 and 4 of vectors 0 to 3, b[1] words 1 and 5, b[2] 2 and 6, b[3] 3 and 7; b[4:] those of vectors 4 to 7.
	for (int i = 0; i < 4; i++) {
		if (mask >> i & 1)
			_mm512_storeu_si512(to[i], _mm512_shuffle_i64x2(b[i], b[i+4], 0x88));
		if (mask >> (i + 4) & 1)
			_mm512_storeu_si512(to[i+4], _mm512_shuffle_i64x2(b[i], b[i+4], 0xdd));
	}
}

// A decoder of eight blocks.
typedef struct {
	const uint8_t *base;
	__m512i llFirst, mlFirst, ofFirst; // the first state of each table; these and the next ones are addresses in units of states
	__m512i ll, ml, of;                // the states
	__m512i at, end, left;             // bits as in bits, and sequences
	__m512i r0, r1, r2;
	__m512i runBytes, matchBytes, offsets; // sums, and all bits that are in any offset
	__mmask8 bad;
} decoder;

// step decodes a sequence of each block in the mask. With check it looks where the bits end, and the sequence may be the last one; without, there
// are stepBits bits and another sequence behind it.
INLINE512 __m512i step(decoder *d, __mmask8 *active, int check) {
	const __m512i none = _mm512_setzero_si512(), one = each(1);
	__mmask8 there;
	if (check) {
		there = _mm512_cmpge_epi64_mask(d->at, d->end);
		d->bad |= *active & ~there;
		*active &= there;
	}
	__m512i w = windows(d->base, d->at, *active);
	__m512i ll = _mm512_mask_i64gather_epi64(none, *active, d->ll, NULL, sizeof(state));
	__m512i ml = _mm512_mask_i64gather_epi64(none, *active, d->ml, NULL, sizeof(state));
	__m512i of = _mm512_mask_i64gather_epi64(none, *active, d->of, NULL, sizeof(state));
	// A state is its base, four bytes, the numbers of bits that are added to that and to the next state, a byte each, and
	// the next state, two bytes.
	__m512i sums = _mm512_add_epi8(_mm512_add_epi8(ll, ml), of), values = _mm512_srli_epi64(sums, 32);
	__m512i bits = _mm512_sad_epu8(_mm512_and_si512(sums, each(0xffff00000000)), none);
	__m512i llExtra = _mm512_srli_epi64(ll, 32), mlExtra = _mm512_srli_epi64(ml, 32), ofExtra = _mm512_srli_epi64(of, 32);
	__m512i w1 = without(w, ofExtra), w2 = without(w, values);
	if (RARE(_mm512_cmpgt_epi64_mask(bits, each(57)))) {
		__m512i at1 = _mm512_sub_epi64(d->at, _mm512_and_si512(ofExtra, each(255))), at2 = _mm512_sub_epi64(d->at, _mm512_and_si512(values, each(255)));
		if (check) {
			there = _mm512_cmpge_epi64_mask(at2, d->end);
			d->bad |= *active & ~there;
			*active &= there;
		}
		w1 = windows(d->base, at1, *active);
		w2 = windows(d->base, at2, *active);
	}
	__m512i offset = _mm512_and_si512(_mm512_add_epi32(of, tops(w, ofExtra)), each(UINT32_MAX));
	__m512i match = _mm512_and_si512(_mm512_add_epi32(ml, tops(w1, mlExtra)), each((1 << matchBits) - 1));
	__m512i run = _mm512_and_si512(_mm512_add_epi32(ll, tops(without(w1, mlExtra), llExtra)), each((1 << runBits) - 1));

	__m512i llBits = _mm512_srli_epi64(ll, 40), mlBits = _mm512_srli_epi64(ml, 40), ofBits = _mm512_srli_epi64(of, 40);
	__m512i w3 = without(w2, llBits), w4 = without(w3, mlBits);
	d->ll = _mm512_add_epi64(_mm512_add_epi64(d->llFirst, _mm512_srli_epi64(ll, 48)), tops(w2, llBits));
	d->ml = _mm512_add_epi64(_mm512_add_epi64(d->mlFirst, _mm512_srli_epi64(ml, 48)), tops(w3, mlBits));
	d->of = _mm512_add_epi64(_mm512_add_epi64(d->ofFirst, _mm512_srli_epi64(of, 48)), tops(w4, ofBits));
	if (check) { // the last one leads to no other state
		__mmask8 last = _mm512_cmpeq_epi64_mask(d->left, one);
		bits = _mm512_mask_and_epi64(bits, last, values, each(255));
		d->left = _mm512_mask_sub_epi64(d->left, *active, d->left, one);
		*active = _mm512_mask_test_epi64_mask(*active, d->left, d->left);
	}
	d->at = _mm512_sub_epi64(d->at, bits);

	// One of the last three offsets, or another one (section 3.1.1.5).
	__mmask8 other = _mm512_cmpgt_epi64_mask(offset, each(3));
	__m512i which = _mm512_mask_add_epi64(offset, _mm512_testn_epi64_mask(run, run), offset, one);
	__mmask8 second = _mm512_cmpgt_epi64_mask(which, one), third = _mm512_cmpgt_epi64_mask(which, each(2));
	__m512i chosen = _mm512_mask_mov_epi64(d->r0, second, d->r1);
	chosen = _mm512_mask_mov_epi64(chosen, third, d->r2);
	chosen = _mm512_mask_sub_epi64(chosen, _mm512_cmpgt_epi64_mask(which, each(3)), d->r0, one);
	chosen = _mm512_mask_sub_epi64(chosen, other, offset, each(3));
	d->offsets = _mm512_mask_or_epi64(d->offsets, other, d->offsets, chosen);
	d->r2 = _mm512_mask_mov_epi64(d->r2, third, d->r1);
	d->r1 = _mm512_mask_mov_epi64(d->r1, second, d->r0);
	d->r0 = chosen;

	d->runBytes = _mm512_add_epi64(d->runBytes, run);
	d->matchBytes = _mm512_add_epi64(d->matchBytes, match);
	__m512i sequence = _mm512_or_si512(run, _mm512_slli_epi64(match, runBits));
	return _mm512_or_si512(sequence, _mm512_slli_epi64(chosen, runBits + matchBits));
}

// stepBits is how many bits a sequence takes at most.
enum { stepBits = 31 + 16 + 16 + llLog + ofLog + mlLog };

// decodeLanes decodes the sequences of count blocks into their lists. It returns whether all are well formed; their offsets may be
// wrong.
TARGET512 NOINLINE static int decodeLanes(const uint8_t *base, block *blocks, unsigned count) {
	uint64_t lls[lanes] = {0}, mls[lanes] = {0}, ofs[lanes] = {0}, llAts[lanes] = {0}, mlAts[lanes] = {0}, ofAts[lanes] = {0};
	uint64_t begins[lanes] = {0}, ends[lanes] = {0}, counts[lanes] = {0}, *lists[lanes] = {0};
	for (unsigned i = 0; i < count; i++) {
		block *b = &blocks[i];
		lists[i] = b->list;
		counts[i] = b->sequences;
		if (b->sequences == 0)
			continue;
		lls[i] = (uint64_t)b->ll->states / sizeof(state);
		mls[i] = (uint64_t)b->ml->states / sizeof(state);
		ofs[i] = (uint64_t)b->of->states / sizeof(state);
		llAts[i] = lls[i] + b->llAt;
		mlAts[i] = mls[i] + b->mlAt;
		ofAts[i] = ofs[i] + b->ofAt;
		begins[i] = b->bits.at;
		ends[i] = b->bits.end;
	}
	const __m512i none = _mm512_setzero_si512();
	decoder d = {
		.base = base, .llFirst = _mm512_loadu_si512(lls), .mlFirst = _mm512_loadu_si512(mls), .ofFirst = _mm512_loadu_si512(ofs),
		.ll = _mm512_loadu_si512(llAts), .ml = _mm512_loadu_si512(mlAts), .of = _mm512_loadu_si512(ofAts),
		.at = _mm512_loadu_si512(begins), .end = _mm512_loadu_si512(ends), .left = _mm512_loadu_si512(counts),
		.r0 = each(TAKEN(0)), .r1 = each(TAKEN(1)), .r2 = each(TAKEN(2)), .runBytes = none, .matchBytes = none, .offsets = none,
	};
	__mmask8 active = _mm512_test_epi64_mask(d.left, d.left);
	while (active) {
		__m512i sequences[8];
		__mmask8 begun = active;
		if (_mm512_mask_cmplt_epi64_mask(active, _mm512_sub_epi64(d.at, d.end), each(8 * stepBits)) ||
				_mm512_mask_cmple_epi64_mask(active, d.left, each(8))) {
			for (int i = 0; i < 8; i++)
				sequences[i] = step(&d, &active, 1);
		} else {
#pragma GCC unroll 8
			for (int i = 0; i < 8; i++)
				sequences[i] = step(&d, &active, 0);
			d.left = _mm512_mask_sub_epi64(d.left, active, d.left, each(8));
		}
		transpose(sequences, lists, begun);
		for (unsigned i = 0; i < count; i++)
			lists[i] += 8;
	}
	d.bad |= _mm512_cmpneq_epi64_mask(d.at, d.end) | _mm512_cmpge_epi64_mask(d.offsets, each(contentMost));
	uint64_t sums[2][lanes], reps[3][lanes];
	_mm512_storeu_si512(sums[0], d.runBytes);
	_mm512_storeu_si512(sums[1], d.matchBytes);
	_mm512_storeu_si512(reps[0], d.r0);
	_mm512_storeu_si512(reps[1], d.r1);
	_mm512_storeu_si512(reps[2], d.r2);
	for (unsigned i = 0; i < count; i++) {
		block *b = &blocks[i];
		b->runBytes = sums[0][i];
		b->matchBytes = sums[1][i];
		for (int k = 0; k < 3; k++)
			b->reps[k] = reps[k][i];
	}
	return d.bad == 0;
}
