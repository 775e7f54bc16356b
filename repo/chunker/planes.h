// The scan by planes, which is the same for registers of every width; see planes_cgo.go. Who includes this says before what
// it is made of: streams; bytes, a register with one of each stream; number, factor, spread and times, a matrix as Go makes
// it, the same as the processor takes it, the way there, and the product with bytes; sum; or_and; least; zeros, the streams
// whose byte is zero; TARGET and WIDE, which make these functions ones of the processor; and unrolled, how many steps are
// written out.

#include <stddef.h>

// EACH must be unrolled, or what it sets lives in memory.
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)

enum {
	rowBytes = 64, // of a stream, and the window
	planes = 7,
	// maxStride is how far apart the streams of a block are at most. It is no power of two, because their lines would
	// share few sets of the cache. Shorter ones cost more to begin with, longer ones are scanned in vain behind a cut.
	maxStride = 15 * rowBytes,
};

typedef struct { bytes plane[planes]; } fingerprints;

typedef struct { number mod[planes], out[planes]; } numbers;
typedef struct { factor mod[planes], out[planes]; } factors;

// slide moves the windows by one byte. Nothing leaves them if out is NULL.
WIDE fingerprints slide(fingerprints d, const bytes *out, bytes in, const factors *m) {
	bytes top = d.plane[planes-1];
	EACH(j, planes) {
		int k = planes-1 - j;
		bytes below = k > 0 ? d.plane[k-1] : left3(in), reduced = times(top, m->mod[k]);
		if (out)
			d.plane[k] = sum(below, reduced, times(*out, m->out[k]));
		else
			d.plane[k] = below ^ reduced;
	}
	d.plane[1] ^= right5(in);
	return d;
}

// low is zero where the low 20 bits of the fingerprint are.
WIDE bytes low(fingerprints d) { return or_and(d.plane[1], d.plane[2], 0x7f) | d.plane[0]; }

// transpose reads a row of each stream and makes columns of them: byte i of all, for each i.
TARGET static void transpose(bytes *columns, const uint8_t *p, size_t stride);

// block is skip for the streams that begin at p, stride bytes apart. Without a cut it returns their length.
TARGET static size_t block(const uint8_t *p, size_t stride, const numbers *numbers) {
	bytes columns[2][rowBytes], *out = columns[0], *in = columns[1];
	fingerprints d;
	factors m;
	EACH(k, planes) {
		d.plane[k] = (bytes){0};
		m.mod[k] = spread(numbers->mod[k]);
		m.out[k] = spread(numbers->out[k]);
	}

	transpose(out, p - rowBytes, stride);
	for (int c = 0; c < rowBytes; c += unrolled)
		EACH(i, unrolled)
			d = slide(d, NULL, out[c+i], &m);
	size_t first = streams * stride;
	const uint8_t *next = p + first;
	for (size_t at = 0; at < stride; at += rowBytes) {
		transpose(in, p + at, stride);
		bytes lowest = ~(bytes){0};
		for (int c = 0; c < rowBytes; c += unrolled)
			EACH(i, unrolled) {
				lowest = least(lowest, low(d));
				d = slide(d, &out[c+i], in[c+i], &m);
				// The processor does not foresee our order, and memory likes its own. What is not there does no harm.
				_mm_prefetch((const char *)next, _MM_HINT_T1);
				next += streams;
			}
		uint64_t cuts = zeros(lowest);
		if (cuts != 0) {
			size_t n = __builtin_ctzll(cuts) * stride + at;
			first = n < first ? n : first;
		}
		bytes *read = in;
		in = out, out = read;
	}
	return first;
}

// skip returns how many of the n bytes behind the window need not be looked at: there is no cut before any of them, and
// either there is one before some of the next rowBytes, or less than streams * rowBytes are left.
static size_t skip(const uint8_t *window, size_t n, const numbers *numbers) {
	const uint8_t *p = window + rowBytes;
	size_t done = 0;
	while (n - done >= streams * rowBytes) {
		size_t stride = (n - done) / (streams * rowBytes) * rowBytes;
		stride = stride < maxStride ? stride : maxStride;
		size_t first = block(p + done, stride, numbers);
		done += first;
		if (first < streams * stride)
			break;
	}
	return done;
}
