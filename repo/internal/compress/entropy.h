// The entropy decoders of zstd frames (RFC 8878, section 4), for frame.h.
//
// They refuse what libzstd refuses, and read no byte outside of the frame, whatever is in it.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi2")))
#define NOINLINE __attribute__((noinline))
#define INLINE __attribute__((target("avx2,bmi2"), always_inline)) static inline
#define RARE(condition) __builtin_expect(!!(condition), 0)

enum {
	hufMost = 11,          // bits of the longest Huffman code
	llLog = 9, ofLog = 8, mlLog = 9, weightLog = 6, // accuracy logs at most
	llCodes = 36, ofCodes = 32, mlCodes = 53,
	symbolsMost = 64, // of a distribution of one of these
};

// A state of an FSE decoder of sequences (section 4.1): what it stands for, and how the next one is found.
typedef struct {
	uint32_t base; // of the value
	uint8_t extra; // bits that are added to it
	uint8_t bits;  // bits that are added to next
	uint16_t next; // state
} state;

// The states of a kind of code, 2^bits.
typedef struct { _Alignas(8) state states[1 << llLog]; unsigned bits; } table;

// A Huffman tree.
typedef struct {
	unsigned bits; // of the longest code; 0: there is no tree
	uint16_t symbols[1 << hufMost]; // for each so many bits: the symbol, and its bits times 256
} huffman;

// Bits that are read backwards (section 4.1.1): those below the bit at, down to the bit end, counted from the beginning of the frame.
typedef struct { uint64_t at, end; } bits;

INLINE uint64_t load64(const uint8_t *p) {
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

INLINE int highest(uint32_t v) { return 31 - __builtin_clz(v); } // bit; v is not 0

// reversed opens the bits in base[from:to]: the highest bit set in the last byte is behind the first one that is read.
INLINE int reversed(bits *b, const uint8_t *base, size_t from, size_t to) {
	if (from >= to || base[to-1] == 0)
		return 0;
	*b = (bits){(uint64_t)(to - 1) * 8 + highest(base[to-1]), (uint64_t)from * 8};
	return 1;
}

// window returns the bits below at, 57 of them at least, the first one on top. Eight bytes precede any bits in a frame, so
// that at may be anything from the end on; those behind the end are others.
INLINE uint64_t window(const uint8_t *base, uint64_t at) { return load64(base + (at + 7) / 8 - 8) << (-at & 7); }

// top returns the n top bits; n is 0 to 32.
INLINE uint64_t top(uint64_t w, unsigned n) { return w >> 1 >> (63 - n); }

// forwards reads n bits, 16 at most, from the bit at on; what is behind the bytes counts as 0.
TARGET static unsigned forwards(const uint8_t *p, size_t length, size_t at, unsigned n) {
	uint32_t v = 0;
	for (unsigned i = 0; i < 3; i++)
		if (at / 8 + i < length)
			v |= (uint32_t)p[at/8+i] << (8 * i);
	return v >> (at & 7) & ((1u << n) - 1);
}

// distribution reads the probabilities of symbols (section 4.1.1) in units of 1 / 2^log; -1 is less than one unit. It returns
// the bytes that they took, 0 for what is none.
TARGET static size_t distribution(const uint8_t *p, size_t length, int16_t *counts, int most, unsigned logMost, unsigned *log) {
	size_t at = 4;
	*log = 5 + forwards(p, length, 0, 4);
	if (*log > logMost)
		return 0;
	int left = 1 << *log, symbol = 0;
	while (left > 0) {
		if (symbol >= most)
			return 0;
		// A value is 0 to left + 1. With one bit less there is room for some; those are the lowest ones.
		unsigned wide = highest(left + 1) + 1, shorter = (1u << wide) - 2 - left;
		unsigned v = forwards(p, length, at, wide), low = v & ((1u << (wide - 1)) - 1);
		if (low < shorter) {
			v = low;
			at += wide - 1;
		} else {
			if (v >> (wide - 1))
				v -= shorter;
			at += wide;
		}
		int count = (int)v - 1;
		counts[symbol++] = count;
		left -= count < 0 ? 1 : count;
		if (count == 0) {
			unsigned more;
			do {
				more = forwards(p, length, at, 2);
				at += 2;
				for (unsigned i = 0; i < more; i++) {
					if (symbol >= most)
						return 0;
					counts[symbol++] = 0;
				}
			} while (more == 3);
		}
	}
	if (at > length * 8)
		return 0;
	memset(counts + symbol, 0, (most - symbol) * sizeof *counts);
	return (at + 7) / 8;
}

// spread puts the symbols of a table of 2^log states into symbols, and into first what the first state of each counts from
// (section 4.1.1); see leave.
TARGET static void spread(const int16_t *counts, int n, unsigned log, uint8_t *symbols, uint16_t *first) {
	unsigned size = 1u << log, step = size / 2 + size / 8 + 3, at = 0, high = size;
	for (int s = 0; s < n; s++) {
		first[s] = counts[s];
		if (counts[s] < 0) {
			symbols[--high] = s;
			first[s] = 1;
		}
	}
	for (int s = 0; s < n; s++)
		for (int i = 0; i < counts[s]; i++) {
			symbols[at] = s;
			do
				at = (at + step) & (size - 1);
			while (RARE(at >= high));
		}
}

// leave tells how a state is left: how many bits are read, and what they are added to. count is that of its symbol, which
// grows by one with each of its states.
INLINE unsigned leave(uint16_t *count, unsigned log, uint16_t *next) {
	unsigned v = (*count)++, bits = log - highest(v);
	*next = (v << bits) - (1u << log);
	return bits;
}

// A kind of code in sequences, section 3.1.1.3.2.1.1.
typedef struct {
	int codes;
	unsigned logMost;
	const uint32_t *base;  // of each code; NULL: that of an offset, whose code is the number of its extra bits
	const uint8_t *extra;
	const int16_t *counts; // the default distribution
	int countsLength;
	unsigned log; // of that
} kind;

static const uint8_t llExtra[llCodes] = {[16] = 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint32_t llBase[llCodes] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 40, 48, 64,
	128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
static const uint8_t mlExtra[mlCodes] = {[32] = 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint32_t mlBase[mlCodes] = {
	3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
	35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539};

static const int16_t llCounts[] = {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
static const int16_t ofCounts[] = {1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};
static const int16_t mlCounts[] = {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1};

#define LENGTH(array) (int)(sizeof(array) / sizeof *(array))
static const kind llKind = {llCodes, llLog, llBase, llExtra, llCounts, LENGTH(llCounts), 6};
static const kind ofKind = {ofCodes, ofLog, NULL, NULL, ofCounts, LENGTH(ofCounts), 5};
static const kind mlKind = {mlCodes, mlLog, mlBase, mlExtra, mlCounts, LENGTH(mlCounts), 6};

// meaning returns what a symbol of the kind stands for.
INLINE state meaning(const kind *k, int symbol) {
	if (!k->base)
		return (state){.base = (uint32_t)1 << symbol, .extra = symbol};
	return (state){.base = k->base[symbol], .extra = k->extra[symbol]};
}

TARGET static void fill(table *t, const kind *k, const int16_t *counts, int n, unsigned log) {
	uint8_t symbols[1 << llLog];
	uint16_t first[symbolsMost];
	spread(counts, n, log, symbols, first);
	for (int i = 0; i < 1 << log; i++) {
		state s = meaning(k, symbols[i]);
		s.bits = leave(&first[symbols[i]], log, &s.next);
		t->states[i] = s;
	}
	t->bits = log;
}

// A table in use: the default one, which stays, or another.
typedef struct {
	const table *now; // NULL: there was none yet
	int haveDefault;
	table normal;
} tables;

// readTable reads the table of a kind from p[*at:end], in one of the four modes (section 3.1.1.3.2.1); a new one comes into other.
TARGET static int readTable(tables *t, table *other, const kind *k, unsigned mode, const uint8_t *p, size_t *at, size_t end) {
	int16_t counts[symbolsMost];
	unsigned log;
	size_t took;
	switch (mode) {
	case 0: // the default
		if (!t->haveDefault)
			fill(&t->normal, k, k->counts, k->countsLength, k->log);
		t->haveDefault = 1;
		t->now = &t->normal;
		return 1;
	case 1: // one symbol
		if (*at >= end || p[*at] >= k->codes)
			return 0;
		other->bits = 0;
		other->states[0] = meaning(k, p[(*at)++]);
		t->now = other;
		return 1;
	case 2:
		took = distribution(p + *at, end - *at, counts, k->codes, k->logMost, &log);
		if (took == 0)
			return 0;
		*at += took;
		fill(other, k, counts, k->codes, log);
		t->now = other;
		return 1;
	default:
		return t->now != NULL;
	}
}

// readHuf reads a Huffman tree (section 4.2.1) from base[from:to] and returns the bytes that it took, 0 for what is none.
TARGET static size_t readHuf(huffman *h, const uint8_t *base, size_t from, size_t to) {
	uint8_t weights[256];
	int n = 0;
	if (from >= to)
		return 0;
	size_t took = base[from++];
	if (took >= 128) { // four bits each
		n = took - 127;
		took = (n + 1) / 2;
		if (took > to - from)
			return 0;
		for (int i = 0; i < n; i++)
			weights[i] = i % 2 ? base[from+i/2] & 15 : base[from+i/2] >> 4;
	} else { // two FSE decoders that take turns
		int16_t counts[symbolsMost];
		uint8_t symbols[1 << weightLog], more[1 << weightLog];
		uint16_t first[symbolsMost], next[1 << weightLog];
		unsigned log;
		bits b;
		if (took > to - from)
			return 0;
		size_t header = distribution(base + from, took, counts, hufMost + 2, weightLog, &log);
		if (header == 0 || !reversed(&b, base, from + header, from + took) || b.at - b.end < 2 * log)
			return 0;
		spread(counts, hufMost + 2, log, symbols, first);
		for (int i = 0; i < 1 << log; i++)
			more[i] = leave(&first[symbols[i]], log, &next[i]);
		unsigned turns[2];
		for (int i = 0; i < 2; i++, b.at -= log)
			turns[i] = top(window(base, b.at), log);
		// The end is where a state cannot be left for lack of bits: it and the other one are the last.
		for (;; n++) {
			if (n > 253)
				return 0;
			unsigned s = turns[n%2];
			weights[n] = symbols[s];
			if (b.at - b.end < more[s]) {
				weights[n+1] = symbols[turns[(n+1)%2]];
				n += 2;
				break;
			}
			turns[n%2] = next[s] + top(window(base, b.at), more[s]);
			b.at -= more[s];
		}
	}
	// The weight of the last symbol is what is missing to a power of two.
	uint32_t sum = 0, begin[hufMost + 2] = {0};
	for (int i = 0; i < n; i++) {
		if (weights[i] > hufMost)
			return 0;
		sum += 1u << weights[i] >> 1;
	}
	if (sum == 0 || highest(sum) + 1 > hufMost)
		return 0;
	int log = highest(sum) + 1;
	uint32_t missing = (1u << log) - sum;
	if (missing & (missing - 1))
		return 0;
	weights[n++] = highest(missing) + 1;
	// Codes of less weight come first, and among those of one weight the symbols are in order.
	for (int i = 0; i < n; i++)
		if (weights[i])
			begin[weights[i]+1] += 1u << (weights[i] - 1);
	if (begin[2] < 2)
		return 0; // the longest codes are two at least
	for (int w = 1; w <= hufMost; w++)
		begin[w+1] += begin[w];
	for (int i = 0; i < n; i++) {
		int w = weights[i];
		if (w == 0)
			continue;
		uint16_t entry = i | (log + 1 - w) << 8, *p = h->symbols + begin[w];
		unsigned length = 1u << (w - 1);
		begin[w] += length;
		if (length < 4) {
			for (unsigned k = 0; k < length; k++)
				p[k] = entry;
			continue;
		}
		uint64_t four = entry * 0x0001000100010001u;
		for (unsigned k = 0; k < length; k += 4)
			memcpy(p + k, &four, sizeof four);
	}
	h->bits = log;
	return took + 1;
}

// One symbol of a Huffman stream, from its window.
#define SYMBOL(out, w, b) do { \
	unsigned entry = h->symbols[(w) >> shift]; \
	*(out)++ = entry; \
	(w) <<= entry >> 8; \
	(b).at -= entry >> 8; \
} while (0)

enum { burst = 5 }; // symbols of one window: 5 · hufMost is 55

// readStreams decodes n literals to p from the 1 or 4 Huffman streams (section 4.2.2) in base[from:to].
TARGET static int readStreams(const huffman *h, uint8_t *p, size_t n, const uint8_t *base, size_t from, size_t to, int streams) {
	unsigned shift = 64 - h->bits;
	uint8_t *out[4], *end[4];
	bits b[4];
	if (streams == 1) {
		out[0] = p;
		end[0] = p + n;
		if (!reversed(&b[0], base, from, to))
			return 0;
	} else {
		if (to - from < 6 || n < 6) // libzstd refuses fewer literals; with more none of the streams ends before it begins
			return 0;
		size_t quarter = (n + 3) / 4, at = from + 6;
		for (int i = 0; i < 4; i++) {
			size_t stop = i == 3 ? to : at + base[from+2*i] + 256 * base[from+2*i+1];
			if (stop > to || !reversed(&b[i], base, at, stop))
				return 0;
			at = stop;
			out[i] = p + i * quarter;
			end[i] = i == 3 ? p + n : out[i] + quarter;
		}
		while (end[3] - out[3] >= burst) {
			uint64_t w[4];
			for (int i = 0; i < 4; i++) {
				if (RARE((int64_t)(b[i].at - b[i].end) < 0))
					return 0;
				w[i] = window(base, b[i].at);
			}
			for (int k = 0; k < burst; k++)
				for (int i = 0; i < 4; i++)
					SYMBOL(out[i], w[i], b[i]);
		}
	}
	for (int i = 0; i < streams; i++) {
		while (out[i] < end[i]) {
			if ((int64_t)(b[i].at - b[i].end) < 0)
				return 0;
			uint64_t w = window(base, b[i].at);
			for (int k = 0; k < burst && out[i] < end[i]; k++)
				SYMBOL(out[i], w, b[i]);
		}
		if (b[i].at != b[i].end)
			return 0;
	}
	return 1;
}
