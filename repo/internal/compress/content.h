// A decoder of zstd frames (RFC 8878) of several blocks, whose sequences are decoded beside each other (lanes.h). It takes 0.8 of the
// time of libzstd.
//
// No byte outside of frame and content is read or written, whatever is in the frame.

#include "frame.h"

#define ROW16(n, at) (at) % n, (at + 1) % n, (at + 2) % n, (at + 3) % n, (at + 4) % n, (at + 5) % n, (at + 6) % n, (at + 7) % n, \
	(at + 8) % n, (at + 9) % n, (at + 10) % n, (at + 11) % n, (at + 12) % n, (at + 13) % n, (at + 14) % n, (at + 15) % n
#define ROW(n) {ROW16(n, 0), ROW16(n, 16)}

// modulo[n] has the numbers from 0 on modulo n.
static const uint8_t modulo[32][32] = {
	{0}, ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15),
	ROW(16), ROW(17), ROW(18), ROW(19), ROW(20), ROW(21), ROW(22), ROW(23), ROW(24), ROW(25), ROW(26), ROW(27), ROW(28), ROW(29), ROW(30), ROW(31)};

INLINE512 void store256(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }

// putSlowly puts a sequence where there is no room behind it.
TARGET512 NOINLINE static void putSlowly(uint8_t *here, const uint8_t *literals, sequence s) {
	memcpy(here, literals, s.run);
	here += s.run;
	for (uint64_t i = 0; i < s.match; i++)
		here[i] = *(here + i - s.offset);
}

// put puts a sequence, and up to slack bytes behind it.
INLINE512 void put(uint8_t *here, const uint8_t *literals, sequence s) {
	store256(here, load256(literals));
	for (uint64_t i = 32; RARE(i < s.run); i += 32)
		store256(here + i, load256(literals + i));
	here += s.run;
	const uint8_t *from = here - s.offset;
	if (RARE(s.offset < 32)) {
		__m256i bytes = _mm256_permutexvar_epi8(load256(modulo[s.offset]), load256(from));
		for (uint64_t i = 0; i < s.match; i += 32 - 32 % s.offset)
			store256(here + i, bytes);
		return;
	}
	store256(here, load256(from));
	store256(here + 32, load256(from + 32));
	for (uint64_t i = 64; RARE(i < s.match); i += 32)
		store256(here + i, load256(from + i));
}

// listPuts puts the sequences of a block, which must not go on behind end.
TARGET512 NOINLINE static int listPuts(reader *v, block *b, const uint8_t *end) {
	uint8_t *here = (uint8_t *)v->here;
	const uint8_t *literals = b->literals;
	int64_t room = v->plainEnd - v->plain - slack;
	if (!listFits(v, b, end))
		return 0;
	for (const uint64_t *q = b->list, *stop = q + b->sequences; q < stop; q++) {
		sequence s;
		uint64_t done = here - v->plain;
		if (RARE(!unpack(v, *q, done, &s)))
			return 0;
		if (RARE((int64_t)(done + s.run + s.match) > room))
			putSlowly(here, literals, s);
		else
			put(here, literals, s);
		here += s.run + s.match;
		literals += s.run;
	}
	endList(v, b);
	return 1;
}

// partPuts puts a block of any type.
TARGET512 static int partPuts(reader *v, part p, block *b) {
	const uint8_t *bytes = v->frame + p.at, *end = v->plainEnd;
	size_t n = p.bytes;
	if (p.type == compressed) {
		end = blockEnd(v);
		if (b->sequences > 0 && !listPuts(v, b, end))
			return 0;
		bytes = b->literals; // behind the sequences
		n = b->literalsLeft;
	}
	if (n > (size_t)(end - v->here))
		return 0;
	if (p.type == repeated)
		memset((uint8_t *)v->here, *bytes, n);
	else
		memcpy((uint8_t *)v->here, bytes, n);
	v->here += n;
	return 1;
}

// frameContent puts the content of frame[:length] into plain[:plainBytes]. It returns whether it is one frame that has so much, and is for
// this decoder; else plain has anything. v is as for frameMatches.
TARGET512 static int frameContent(reader *v, const uint8_t *frame, size_t length, uint8_t *plain, size_t plainBytes) {
	size_t at = plainBytes < contentMost ? openFrame(v, frame, length, plain, plainBytes) : 0;
	int good = at > 0;
	for (int last = 0; good && !last;) {
		part parts[lanes];
		unsigned count = lanes;
		good = openBlocks(v, &at, parts, &count, &last) && decodeLanes(frame, v->blocks, count);
		for (unsigned i = 0; good && i < count; i++)
			good = partPuts(v, parts[i], &v->blocks[i]);
	}
	good = good && at == length && v->here == v->plainEnd;
	closeFrame(v);
	return good;
}
