// A decoder of zstd frames (RFC 8878) that writes nothing: it knows what the frame should hold, and compares.
//
// So it needs no memory for the content, a match that overlaps itself is like any other, and nothing waits for a copy. It
// takes 0.8 to 0.9 of the time of libzstd and a comparison, and leaves to others the caches that copies would fill.
//
// Where blocks are decoded beside each other (lanes.h) it takes 0.8 of that again. No byte outside of frame and content is read,
// whatever is in them.

#include <stdbool.h>

#include "frame.h"

enum {
	together = 4, // blocks that are decoded beside each other at least: fewer take less time one by one
};

// low returns the n bits of v from the bit at on.
INLINE uint64_t low(uint64_t v, unsigned at, unsigned n) { return _bzhi_u64(v >> (at & 63), n); }

// refill returns bits below at, 57 at least, as the left lowest ones. 0 means that those at hand were not there.
INLINE int refill(const uint8_t *base, uint64_t at, uint64_t end, uint64_t *w, unsigned *left) {
	if (RARE((int64_t)(at - end) < 0))
		return 0;
	*w = load64(base + (at + 7) / 8 - 8);
	*left = 64 - (-at & 7);
	return 1;
}

// The n bytes of 64 from ones + 64 - n on are 255.
static const uint8_t ones[128] = {
	255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

INLINE __m256i differing(const uint8_t *a, const uint8_t *b) { return load256(a) ^ load256(b); }

// sequencesMatch decodes the sequences of a block (section 3.1.1.3.2: so many literals, and a match of so many bytes at an offset) and
// compares each. They must not go on behind end. What is decoded and what is compared do not wait for each other, so that the
// processor does both at a time.
TARGET NOINLINE static int sequencesMatch(reader *v, block *b, const uint8_t *end) {
	const uint8_t *base = v->frame, *plain = v->plain, *here = v->here, *literals = b->literals;
	const state *ll = b->ll->states + b->llAt, *of = b->of->states + b->ofAt, *ml = b->ml->states + b->mlAt;
	const state *const lls = b->ll->states, *const ofs = b->of->states, *const mls = b->ml->states;
	uint64_t at = b->bits.at, atEnd = b->bits.end;
	uint64_t r0 = v->reps[0], r1 = v->reps[1], r2 = v->reps[2], windowBytes = v->windowBytes;
	int64_t literalsLeft = b->literalsLeft, spare = v->plainEnd - end, careful = spare < slack ? slack - spare : 0;
	__m256i bad = _mm256_setzero_si256();
	for (size_t n = b->sequences; n > 0; n--) {
		unsigned ofExtra = of->extra, mlExtra = ml->extra, llExtra = ll->extra, llBits = ll->bits, mlBits = ml->bits, ofBits = of->bits;
		unsigned values = ofExtra + mlExtra + llExtra, next = llBits + mlBits + ofBits, left;
		uint64_t w;
		if (!refill(base, at, atEnd, &w, &left))
			return 0;
		uint64_t offset = of->base + low(w, left - ofExtra, ofExtra);
		int far = values + next > 57;
		if (RARE(far)) {
			at -= ofExtra;
			values -= ofExtra;
			ofExtra = 0;
			if (!refill(base, at, atEnd, &w, &left))
				return 0;
		}
		uint64_t match = ml->base + low(w, left - (ofExtra + mlExtra), mlExtra), run = ll->base + low(w, left - values, llExtra);
		if (RARE(far)) {
			at -= values;
			values = 0;
			if (!refill(base, at, atEnd, &w, &left))
				return 0;
		}
		at -= values;
		if (n > 1) {
			at -= next;
			left -= values;
			ll = lls + ll->next + low(w, left - llBits, llBits);
			ml = mls + ml->next + low(w, left - (llBits + mlBits), mlBits);
			of = ofs + of->next + low(w, left - next, ofBits);
		}
		// One of the last three offsets, or another one (section 3.1.1.5).
		if (offset > 3) {
			offset -= 3;
			r2 = r1;
			r1 = r0;
			r0 = offset;
		} else {
			uint64_t which = offset - 1 + (run == 0);
			offset = which == 3 ? r0 - 1 : which == 2 ? r2 : which == 1 ? r1 : r0;
			r2 = which >= 2 ? r1 : r2;
			r1 = which >= 1 ? r0 : r1;
			r0 = offset;
		}
		int64_t room = end - here - (int64_t)(run + match);
		literalsLeft -= run;
		if (RARE(literalsLeft < 0 || offset - 1 >= (uint64_t)(here - plain) + run || offset > windowBytes))
			return 0;
		if (RARE(room < careful)) {
			if (room < 0 || memcmp(here, literals, run) != 0)
				return 0;
			literals += run;
			here += run;
			for (; match > 0; match--, here++)
				if (*here != *(here - offset))
					return 0;
			continue;
		}
		for (; RARE(run > 32); run -= 32, here += 32, literals += 32)
			bad |= differing(here, literals);
		bad |= differing(here, literals) & load256(ones + 64 - run);
		here += run;
		literals += run;
		for (; RARE(match > 64); match -= 32, here += 32)
			bad |= differing(here, here - offset);
		bad |= differing(here, here - offset) & load256(ones + 64 - match);
		bad |= differing(here + 32, here + 32 - offset) & load256(ones + 96 - match);
		here += match;
	}
	v->here = here;
	v->reps[0] = r0;
	v->reps[1] = r1;
	v->reps[2] = r2;
	b->literals = literals;
	b->literalsLeft = literalsLeft;
	return at == atEnd && _mm256_testz_si256(bad, bad);
}

INLINE512 __m512i load512(const uint8_t *p, uint64_t n) { return _mm512_maskz_loadu_epi8(_bzhi_u64(-1, n), p); } // of 64 bytes n

INLINE512 __m512i differing512(const uint8_t *a, const uint8_t *b, uint64_t n) { return load512(a, n) ^ load512(b, n); }

// listMatches is sequencesMatch for a block whose sequences are decoded.
TARGET512 NOINLINE static int listMatches(reader *v, block *b, const uint8_t *end) {
	const uint8_t *here = v->here, *literals = b->literals;
	if (!listFits(v, b, end))
		return 0;
	__m512i bad = _mm512_setzero_si512();
	for (const uint64_t *q = b->list, *stop = q + b->sequences; q < stop; q++) {
		sequence s;
		if (RARE(!unpack(v, *q, here - v->plain, &s)))
			return 0;
		for (; RARE(s.run > 64); s.run -= 64, here += 64, literals += 64)
			bad |= differing512(here, literals, 64);
		bad |= differing512(here, literals, s.run);
		here += s.run;
		literals += s.run;
		for (; RARE(s.match > 64); s.match -= 64, here += 64)
			bad |= differing512(here, here - s.offset, 64);
		bad |= differing512(here, here - s.offset, s.match);
		here += s.match;
	}
	endList(v, b);
	return _mm512_test_epi64_mask(bad, bad) == 0;
}

// blockMatches compares a compressed block, whose sequences are decoded if listed.
TARGET static int blockMatches(reader *v, block *b, int listed) {
	const uint8_t *end = blockEnd(v);
	if (b->sequences > 0 && !(listed ? listMatches(v, b, end) : sequencesMatch(v, b, end)))
		return 0;
	if (b->literalsLeft > (size_t)(end - v->here) || memcmp(v->here, b->literals, b->literalsLeft) != 0)
		return 0;
	v->here += b->literalsLeft;
	return 1;
}

// partMatches compares a block of any type.
TARGET static int partMatches(reader *v, part p, block *b, int listed) {
	const uint8_t *bytes = v->frame + p.at;
	if (p.type == compressed)
		return blockMatches(v, b, listed);
	if (p.bytes > (size_t)(v->plainEnd - v->here))
		return 0;
	const uint8_t *stop = v->here + p.bytes;
	if (p.type == raw) {
		if (memcmp(bytes, v->here, p.bytes) != 0)
			return 0;
		v->here = stop;
		return 1;
	}
	for (; v->here < stop; v->here++)
		if (*v->here != *bytes)
			return 0;
	return 1;
}

// frameMatches reports whether frame[:length] is one frame (section 3.1.1) whose content is plain[:plainBytes]. With wide, lanes
// are used. v is zeros before its first use, and keeps no pointers to these.
TARGET static int frameMatches(reader *v, bool wide, const uint8_t *frame, size_t length, const uint8_t *plain, size_t plainBytes) {
	size_t at = openFrame(v, frame, length, plain, plainBytes);
	int same = at > 0;
	for (int last = 0; same && !last;) {
		part parts[lanes];
		unsigned count = wide && plainBytes < contentMost ? lanes : 1;
		same = openBlocks(v, &at, parts, &count, &last);
		int listed = count >= together;
		if (same && listed)
			same = decodeLanes(frame, v->blocks, count);
		for (unsigned i = 0; same && i < count; i++)
			same = partMatches(v, parts[i], &v->blocks[i], listed);
	}
	same = same && at == length && v->here == v->plainEnd;
	closeFrame(v);
	return same;
}
