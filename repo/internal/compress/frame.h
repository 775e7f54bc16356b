// What a zstd frame (RFC 8878) is made of, for matches.h and content.h.
//
// It is strict: what libzstd refuses, what needs a dictionary, and checksums are refused, and some of what libzstd lets pass. No byte
// outside of the frame is read, whatever is in it.

#pragma once
#include "lanes.h"

// A frame that is read, and its content.
typedef struct {
	const uint8_t *frame;
	size_t frameBytes;
	const uint8_t *plain, *plainEnd, *here; // the content, and how far it is done
	size_t blockRoom;                       // plain bytes that a block may hold
	uint64_t windowBytes;
	uint64_t reps[3]; // the last three offsets

	tables ll, of, ml;
	table kept[3]; // those that were in use before the blocks in work
	huffman huf;
	block blocks[lanes]; // in work
} reader;

enum { raw, repeated, compressed }; // types of blocks (section 3.1.1.2)

// A block in the frame: so many bytes from at on, or a byte there that stands for so many.
typedef struct {
	unsigned type;
	size_t at, bytes;
} part;

// readLiterals reads the section of literals of a block (section 3.1.1.3.1), base[*from:to].
TARGET static int readLiterals(reader *v, block *b, size_t *from, size_t to) {
	const uint8_t *base = v->frame;
	if (*from >= to)
		return 0;
	unsigned type = base[*from] & 3, format = base[*from] >> 2 & 3;
	uint64_t header = 0;
	for (size_t i = 0; i < 5 && *from + i < to; i++)
		header |= (uint64_t)base[*from+i] << (8 * i);
	b->literals = b->decoded;
	if (type < 2) { // as they are, or one byte repeated
		static const uint8_t bytes[4] = {1, 2, 1, 3}, skip[4] = {3, 4, 3, 4}, wide[4] = {5, 12, 5, 20};
		size_t at = *from + bytes[format], n = header >> skip[format] & ((1u << wide[format]) - 1), stored = type == 0 ? n : 1;
		if (n > blockMost || at > to || stored > to - at)
			return 0;
		if (type == 1)
			memset(b->decoded, base[at], n);
		else if (v->frameBytes - (at + stored) >= slack)
			b->literals = base + at;
		else
			memcpy(b->decoded, base + at, n);
		b->literalsLeft = n;
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
	b->literalsLeft = n;
	*from = stop;
	return readStreams(&v->huf, b->decoded, n, base, at, stop, format == 0 ? 1 : 4);
}

// openBlock reads what precedes the sequences of a compressed block (section 3.1.1.3), base[from:to].
TARGET static int openBlock(reader *v, block *b, size_t from, size_t to) {
	const uint8_t *base = v->frame;
	if (!readLiterals(v, b, &from, to) || from >= to)
		return 0;
	size_t n = base[from++];
	if (n >= 128) {
		unsigned wide = n == 255 ? 2 : 1;
		if (to - from < wide)
			return 0;
		n = wide == 2 ? base[from] + 256 * base[from+1] + 0x7f00 : (n - 128) * 256 + base[from];
		from += wide;
	}
	if (n > sequencesMost)
		return 0;
	b->sequences = n;
	if (n == 0)
		return from == to;
	if (from >= to || base[from] & 3)
		return 0;
	unsigned modes = base[from++];
	if (!readTable(&v->ll, &b->own[0], &llKind, modes >> 6, base, &from, to) || !readTable(&v->of, &b->own[1], &ofKind, modes >> 4 & 3, base, &from, to) ||
			!readTable(&v->ml, &b->own[2], &mlKind, modes >> 2 & 3, base, &from, to))
		return 0;
	b->ll = v->ll.now;
	b->of = v->of.now;
	b->ml = v->ml.now;
	unsigned all = b->ll->bits + b->of->bits + b->ml->bits;
	if (!reversed(&b->bits, base, from, to) || b->bits.at - b->bits.end < all)
		return 0;
	uint64_t w = window(base, b->bits.at);
	b->llAt = top(w, b->ll->bits);
	w <<= b->ll->bits;
	b->ofAt = top(w, b->of->bits);
	w <<= b->of->bits;
	b->mlAt = top(w, b->ml->bits);
	b->bits.at -= all;
	return 1;
}

// openFrame reads the header of the frame (section 3.1.1.1) and returns where the blocks begin, 0 for what is none.
TARGET static size_t openFrame(reader *v, const uint8_t *base, size_t length, const uint8_t *plain, size_t plainBytes) {
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

// keep copies a table in use that belongs to a block, for blocks that come.
TARGET static void keep(tables *t, table *kept) {
	if (t->now == NULL || t->now == &t->normal || t->now == kept)
		return;
	memcpy(kept, t->now, sizeof *kept);
	t->now = kept;
}

// openBlocks reads the next blocks from base[*at] on, count of them or up to the last one.
TARGET static int openBlocks(reader *v, size_t *at, part *parts, unsigned *count, int *last) {
	const uint8_t *base = v->frame;
	size_t length = v->frameBytes;
	if (*count > 1) { // else no table is made while the one in use is needed
		keep(&v->ll, &v->kept[0]);
		keep(&v->of, &v->kept[1]);
		keep(&v->ml, &v->kept[2]);
	}
	for (unsigned i = 0; i < *count; i++) {
		if (length - *at < 3)
			return 0;
		uint32_t header = base[*at] | base[*at+1] << 8 | base[*at+2] << 16, type = header >> 1 & 3;
		size_t n = header >> 3;
		*last = header & 1;
		*at += 3;
		if (type > compressed || n > v->blockRoom || (type == repeated ? 1 : n) > length - *at)
			return 0;
		parts[i] = (part){type, *at, n};
		*at += type == repeated ? 1 : n;
		v->blocks[i].sequences = 0;
		if (type == compressed && !openBlock(v, &v->blocks[i], *at - n, *at))
			return 0;
		if (*last)
			*count = i + 1;
	}
	return 1;
}

// taken returns what an offset in the list of a block stands for; 0 and more than there is are wrong.
INLINE uint64_t taken(const reader *v, uint64_t offset) {
	if (offset < contentMost)
		return offset;
	uint64_t k = (offset - contentMost + takenStep / 2) / takenStep - 1;
	return k < 3 ? v->reps[k] - (TAKEN(k) - offset) : 0;
}

// A sequence that is unpacked: so many literals, and a match of so many bytes at an offset.
typedef struct { uint64_t run, match, offset; } sequence;

// unpack unpacks one of a list, which begins behind so many bytes of content. It returns whether its offset reaches no further than
// these and the window.
INLINE int unpack(const reader *v, uint64_t packed, uint64_t done, sequence *s) {
	s->run = packed & ((1 << runBits) - 1);
	s->match = packed >> runBits & ((1 << matchBits) - 1);
	s->offset = packed >> (runBits + matchBits);
	uint64_t reach = done + s->run;
	if (reach > v->windowBytes)
		reach = v->windowBytes;
	if (RARE(s->offset - 1 >= reach)) {
		s->offset = taken(v, s->offset);
		return s->offset - 1 < reach;
	}
	return 1;
}

// listFits reports whether the sequences of a block whose sequences are decoded have no more literals than it, and do not go on behind end.
INLINE int listFits(const reader *v, const block *b, const uint8_t *end) {
	return b->runBytes <= b->literalsLeft && b->runBytes + b->matchBytes <= (uint64_t)(end - v->here);
}

// endList goes on behind the sequences of a block.
INLINE void endList(reader *v, block *b) {
	uint64_t reps[3];
	for (int k = 0; k < 3; k++)
		reps[k] = taken(v, b->reps[k]);
	memcpy(v->reps, reps, sizeof reps);
	v->here += b->runBytes + b->matchBytes;
	b->literals += b->runBytes;
	b->literalsLeft -= b->runBytes;
}

// blockEnd returns where a block that begins here ends at most.
INLINE const uint8_t *blockEnd(const reader *v) {
	return v->blockRoom < (size_t)(v->plainEnd - v->here) ? v->here + v->blockRoom : v->plainEnd;
}

INLINE __m256i load256(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

// closeFrame forgets frame and content.
INLINE void closeFrame(reader *v) {
	v->frame = v->plain = v->plainEnd = v->here = NULL;
	for (int i = 0; i < lanes; i++)
		v->blocks[i].literals = NULL;
}
