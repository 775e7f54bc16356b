// A decoder of zstd frames (RFC 8878) that writes nothing: it knows what the frame should hold, and compares.
//
// So it needs no memory for the content, a match that overlaps itself is like any other, and nothing waits for a copy. It
// takes 0.8 to 0.9 of the time of libzstd and a comparison, and leaves to others the caches that copies would fill.
//
// It is strict: what libzstd refuses, what needs a dictionary, and checksums are refused, and some of what libzstd lets pass. No byte
// outside of frame and content is read, whatever is in them.

#include "entropy.h"

enum {
	blockMost = 128 << 10, // plain bytes of a block
	slack = 64,            // bytes behind what is compared that are read, too
};

typedef struct {
	const uint8_t *frame;
	size_t frameBytes;
	const uint8_t *plain, *plainEnd, *here; // what the frame should hold, and how much is compared
	size_t blockRoom;                       // plain bytes that a block may hold
	uint64_t windowBytes;
	uint64_t reps[3]; // the last three offsets

	tables ll, of, ml;
	huffman huf;

	// The compressed block in work.
	size_t sequences;
	bits bits;                 // of these
	uint64_t llAt, ofAt, mlAt; // the first states
	const uint8_t *literals;   // that are not compared yet; slack more bytes may be read
	size_t literalsLeft;
	uint8_t decoded[blockMost + slack]; // literals, if they are not used where they are in the frame
} verifier;

// readLiterals reads the section of literals of a block (section 3.1.1.3.1), base[*from:to].
TARGET static int readLiterals(verifier *v, size_t *from, size_t to) {
	const uint8_t *base = v->frame;
	if (*from >= to)
		return 0;
	unsigned type = base[*from] & 3, format = base[*from] >> 2 & 3;
	uint64_t header = 0;
	for (size_t i = 0; i < 5 && *from + i < to; i++)
		header |= (uint64_t)base[*from+i] << (8 * i);
	v->literals = v->decoded;
	if (type < 2) { // as they are, or one byte repeated
		static const uint8_t bytes[4] = {1, 2, 1, 3}, skip[4] = {3, 4, 3, 4}, wide[4] = {5, 12, 5, 20};
		size_t at = *from + bytes[format], n = header >> skip[format] & ((1u << wide[format]) - 1), stored = type == 0 ? n : 1;
		if (n > blockMost || at > to || stored > to - at)
			return 0;
		if (type == 1)
			memset(v->decoded, base[at], n);
		else if (v->frameBytes - (at + stored) >= slack)
			v->literals = base + at;
		else
			memcpy(v->decoded, base + at, n);
		v->literalsLeft = n;
		*from = at + stored;
		return 1;
	}
	static const uint8_t bytes[4] = {3, 3, 4, 5}, wide[4] = {10, 10, 14, 18};
	size_t at = *from + bytes[format], mask = (1u << wide[format]) - 1;
	size_t n = header >> 4 & mask, stored = header >> (4 + wide[format]) & mask;
	if (n > blockMost || at > to || stored > to - at)
		return 0;
	size_t stop = at + stored;
	if (type == 2) {
		size_t took = readHuf(&v->huf, base, at, stop);
		if (took == 0)
			return 0;
		at += took;
	} else if (v->huf.bits == 0) {
		return 0;
	}
	v->literalsLeft = n;
	*from = stop;
	return readStreams(&v->huf, v->decoded, n, base, at, stop, format == 0 ? 1 : 4);
}

// openBlock reads what precedes the sequences of a compressed block (section 3.1.1.3), base[from:to].
TARGET static int openBlock(verifier *v, size_t from, size_t to) {
	const uint8_t *base = v->frame;
	if (!readLiterals(v, &from, to) || from >= to)
		return 0;
	size_t n = base[from++];
	if (n >= 128) {
		unsigned wide = n == 255 ? 2 : 1;
		if (to - from < wide)
			return 0;
		n = wide == 2 ? base[from] + 256 * base[from+1] + 0x7f00 : (n - 128) * 256 + base[from];
		from += wide;
	}
	v->sequences = n;
	if (n == 0)
		return from == to;
	if (from >= to || base[from] & 3)
		return 0;
	unsigned modes = base[from++];
	if (!readTable(&v->ll, &llKind, modes >> 6, base, &from, to) || !readTable(&v->of, &ofKind, modes >> 4 & 3, base, &from, to) ||
			!readTable(&v->ml, &mlKind, modes >> 2 & 3, base, &from, to))
		return 0;
	unsigned all = v->ll.now->bits + v->of.now->bits + v->ml.now->bits;
	if (!reversed(&v->bits, base, from, to) || v->bits.at - v->bits.end < all)
		return 0;
	uint64_t w = window(base, v->bits.at);
	v->llAt = top(w, v->ll.now->bits);
	w <<= v->ll.now->bits;
	v->ofAt = top(w, v->of.now->bits);
	w <<= v->of.now->bits;
	v->mlAt = top(w, v->ml.now->bits);
	v->bits.at -= all;
	return 1;
}

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

INLINE __m256i load256(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

INLINE __m256i differing(const uint8_t *a, const uint8_t *b) { return load256(a) ^ load256(b); }

// sequencesMatch decodes the sequences of a block (section 3.1.1.3.2: so many literals, and a match of so many bytes at an offset) and
// compares each. They must not go on behind end. What is decoded and what is compared do not wait for each other, so that the
// processor does both at a time.
TARGET NOINLINE static int sequencesMatch(verifier *v, const uint8_t *end) {
	const uint8_t *base = v->frame, *plain = v->plain, *here = v->here, *literals = v->literals;
	const state *ll = v->ll.now->states + v->llAt, *of = v->of.now->states + v->ofAt, *ml = v->ml.now->states + v->mlAt;
	const state *const lls = v->ll.now->states, *const ofs = v->of.now->states, *const mls = v->ml.now->states;
	uint64_t at = v->bits.at, atEnd = v->bits.end;
	uint64_t r0 = v->reps[0], r1 = v->reps[1], r2 = v->reps[2], windowBytes = v->windowBytes;
	int64_t literalsLeft = v->literalsLeft, spare = v->plainEnd - end, careful = spare < slack ? slack - spare : 0;
	__m256i bad = _mm256_setzero_si256();
	for (size_t n = v->sequences; n > 0; n--) {
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
	v->literals = literals;
	v->literalsLeft = literalsLeft;
	return at == atEnd && _mm256_testz_si256(bad, bad);
}

// blockMatches compares a compressed block, base[from:to].
TARGET static int blockMatches(verifier *v, size_t from, size_t to) {
	const uint8_t *end = v->blockRoom < (size_t)(v->plainEnd - v->here) ? v->here + v->blockRoom : v->plainEnd;
	if (!openBlock(v, from, to))
		return 0;
	if (v->sequences > 0 && !sequencesMatch(v, end))
		return 0;
	if (v->literalsLeft > (size_t)(end - v->here) || memcmp(v->here, v->literals, v->literalsLeft) != 0)
		return 0;
	v->here += v->literalsLeft;
	return 1;
}

// openFrame reads the header of the frame (section 3.1.1.1) and returns where the blocks begin, 0 for what is none.
TARGET static size_t openFrame(verifier *v, const uint8_t *base, size_t length, const uint8_t *plain, size_t plainBytes) {
	static const uint8_t sizeBytes[4] = {0, 2, 4, 8};
	if (length < 9 || (uint32_t)load64(base) != 0xfd2fb528)
		return 0;
	unsigned descriptor = base[4], single = descriptor >> 5 & 1, wide = sizeBytes[descriptor >> 6];
	if (wide == 0)
		wide = single;
	if (descriptor & 0x1f || wide == 0) // reserved bits, checksum, dictionary; no size
		return 0;
	size_t at = 5;
	uint64_t windowBytes = plainBytes, size = 0;
	if (!single) {
		unsigned log = 10 + (base[at] >> 3);
		windowBytes = ((uint64_t)1 << log) + ((uint64_t)1 << log) / 8 * (base[at] & 7);
		at++;
	}
	if (length - at < wide)
		return 0;
	for (unsigned i = 0; i < wide; i++)
		size |= (uint64_t)base[at+i] << (8 * i);
	if (size + (wide == 2 ? 256 : 0) != plainBytes)
		return 0;
	v->frame = base;
	v->frameBytes = length;
	v->plain = v->here = plain;
	v->plainEnd = plain + plainBytes;
	v->windowBytes = windowBytes;
	v->blockRoom = windowBytes < blockMost ? windowBytes : blockMost;
	v->ll.now = v->of.now = v->ml.now = NULL;
	v->huf.bits = 0;
	v->reps[0] = 1;
	v->reps[1] = 4;
	v->reps[2] = 8;
	return at + wide;
}

// blocksMatch compares the blocks from base[at] to the end.
TARGET static int blocksMatch(verifier *v, size_t at) {
	const uint8_t *base = v->frame;
	size_t length = v->frameBytes;
	for (unsigned last = 0; !last;) {
		if (length - at < 3)
			return 0;
		uint32_t header = base[at] | base[at+1] << 8 | base[at+2] << 16, type = header >> 1 & 3;
		size_t n = header >> 3;
		last = header & 1;
		at += 3;
		if (n > v->blockRoom || (type == 1 ? 1 : n) > length - at)
			return 0;
		switch (type) {
		case 0: // as it is
			if (n > (size_t)(v->plainEnd - v->here) || memcmp(base + at, v->here, n) != 0)
				return 0;
			at += n;
			v->here += n;
			break;
		case 1: // one byte, repeated
			if (n > (size_t)(v->plainEnd - v->here))
				return 0;
			for (const uint8_t *stop = v->here + n; v->here < stop; v->here++)
				if (*v->here != base[at])
					return 0;
			at++;
			break;
		case 2:
			if (!blockMatches(v, at, at + n))
				return 0;
			at += n;
			break;
		default:
			return 0;
		}
	}
	return at == length && v->here == v->plainEnd;
}

// frameMatches reports whether frame[:length] is one frame (section 3.1.1) whose content is plain[:plainBytes]. v is zeros before
// its first use, and keeps no pointers to these.
TARGET static int frameMatches(verifier *v, const uint8_t *frame, size_t length, const uint8_t *plain, size_t plainBytes) {
	size_t at = openFrame(v, frame, length, plain, plainBytes);
	int same = at > 0 && blocksMatch(v, at);
	v->frame = v->plain = v->plainEnd = v->here = v->literals = NULL;
	return same;
}
