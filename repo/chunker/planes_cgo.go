//go:build cgo && amd64

package chunker

/*
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

// EACH must be unrolled, or what it sets lives in memory.
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)
#define TARGET __attribute__((target("avx512f,avx512bw,gfni")))
#define WIDE __attribute__((target("avx512f,avx512bw,gfni"), always_inline)) static inline

enum {
	streams = 64,
	rowBytes = 64, // of a stream, and the window
	planes = 7,
	// maxStride is how far apart the streams of a block are at most. It is no power of two, because their lines would
	// share few sets of the cache. Shorter ones cost more to begin with, longer ones are scanned in vain behind a cut.
	maxStride = 15 * rowBytes,
};

typedef __m512i bytes; // one of each stream, in their order

typedef struct { bytes plane[planes]; } fingerprints;

// matrices are as Go makes them; factors have each eight times, as the instruction takes it.
typedef struct { uint64_t mod[planes], out[planes], in[2]; } matrices;
typedef struct { bytes mod[planes], out[planes], in[2]; } factors;

WIDE bytes times(bytes a, bytes matrix) { return _mm512_gf2p8affine_epi64_epi8(a, matrix, 0); }

WIDE bytes sum(bytes a, bytes b, bytes c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }

// slide moves the windows by one byte. Nothing leaves them if out is NULL.
WIDE fingerprints slide(fingerprints d, const bytes *out, bytes in, const factors *m) {
	bytes top = d.plane[planes-1];
	EACH(j, planes) {
		int k = planes-1 - j;
		bytes below = k > 0 ? d.plane[k-1] : times(in, m->in[0]), reduced = times(top, m->mod[k]);
		d.plane[k] = out ? sum(below, reduced, times(*out, m->out[k])) : _mm512_xor_si512(below, reduced);
	}
	d.plane[1] = _mm512_xor_si512(d.plane[1], times(in, m->in[1]));
	return d;
}

// low is zero where the low 20 bits of the fingerprint are.
WIDE bytes low(fingerprints d) {
	bytes or_and = _mm512_ternarylogic_epi64(d.plane[1], d.plane[2], _mm512_set1_epi8(0x7f), 0xf8);
	return _mm512_or_si512(or_and, d.plane[0]);
}

// transpose reads a row of each stream and makes columns of them: byte i of all, for each i.
TARGET static void transpose(bytes *columns, const uint8_t *p, size_t stride) {
	bytes quarters[4][16]; // quarters[l][s] is the quarter l of the rows s, s+16, s+32 and s+48
	for (int s = 0; s < 16; s++) {
		const uint8_t *q = p + s * stride;
		bytes a = _mm512_loadu_si512(q), b = _mm512_loadu_si512(q + 16 * stride);
		bytes c = _mm512_loadu_si512(q + 32 * stride), d = _mm512_loadu_si512(q + 48 * stride);
		bytes ab = _mm512_shuffle_i32x4(a, b, 0x44), cd = _mm512_shuffle_i32x4(c, d, 0x44);
		quarters[0][s] = _mm512_shuffle_i32x4(ab, cd, 0x88);
		quarters[1][s] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
		ab = _mm512_shuffle_i32x4(a, b, 0xee), cd = _mm512_shuffle_i32x4(c, d, 0xee);
		quarters[2][s] = _mm512_shuffle_i32x4(ab, cd, 0x88);
		quarters[3][s] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
	}
	// The place of a byte is now eight bits, four for s and four for the byte in its quarter. A round of interleaving
	// rotates them by one, so four rounds exchange the two halves.
	for (int l = 0; l < 4; l++) {
		bytes a[16], b[16];
		EACH(i, 16)
			a[i] = quarters[l][i];
		EACH(round, 4) {
			EACH(i, 8) {
				b[2*i] = _mm512_unpacklo_epi8(a[i], a[i+8]);
				b[2*i+1] = _mm512_unpackhi_epi8(a[i], a[i+8]);
			}
			EACH(i, 16)
				a[i] = b[i];
		}
		EACH(i, 16)
			columns[16*l+i] = a[i];
	}
}

// block is skip for the streams that begin at p, stride bytes apart. Without a cut it returns their length.
TARGET static size_t block(const uint8_t *p, size_t stride, const matrices *numbers) {
	bytes columns[2][rowBytes], *out = columns[0], *in = columns[1];
	fingerprints d;
	factors m;
	EACH(k, planes) {
		d.plane[k] = _mm512_setzero_si512();
		m.mod[k] = _mm512_set1_epi64(numbers->mod[k]);
		m.out[k] = _mm512_set1_epi64(numbers->out[k]);
	}
	EACH(k, 2)
		m.in[k] = _mm512_set1_epi64(numbers->in[k]);

	transpose(out, p - rowBytes, stride);
	for (int c = 0; c < rowBytes; c += 16)
		EACH(i, 16)
			d = slide(d, NULL, out[c+i], &m);
	size_t first = streams * stride;
	const uint8_t *next = p + first;
	for (size_t at = 0; at < stride; at += rowBytes) {
		transpose(in, p + at, stride);
		bytes least = _mm512_set1_epi8(-1);
		for (int c = 0; c < rowBytes; c += 16)
			EACH(i, 16) {
				least = _mm512_min_epu8(least, low(d));
				d = slide(d, &out[c+i], in[c+i], &m);
				// The processor does not foresee our order, and memory likes its own. What is not there does no harm.
				_mm_prefetch((const char *)next, _MM_HINT_T1);
				next += 64;
			}
		__mmask64 cuts = _mm512_testn_epi8_mask(least, least);
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
static size_t skip(const uint8_t *window, size_t n, const uint64_t *numbers) {
	const uint8_t *p = window + rowBytes;
	size_t done = 0;
	while (n - done >= streams * rowBytes) {
		size_t stride = (n - done) / (streams * rowBytes) * rowBytes;
		stride = stride < maxStride ? stride : maxStride;
		size_t first = block(p + done, stride, (const matrices *)numbers);
		done += first;
		if (first < streams * stride)
			break;
	}
	return done;
}

static int planes_work(void) {
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("gfni");
}

#cgo noescape skip
#cgo nocallback skip
*/
import "C"

// Where the processor multiplies a vector register's bytes by a matrix of bits (AVX-512 with GFNI), 64 streams are
// scanned at once. A fingerprint times 8 has seven whole bytes, the top one of which is to be reduced in the next step;
// each of the seven is a register, its plane, with a byte for each stream. To shift all fingerprints by a byte only the
// planes' names change. What a byte adds to a fingerprint is linear in its bits, and so there is, instead of the tables,
// a matrix per plane for the top byte, for the one that leaves the window, and for the one that comes in, which meets
// the two lowest planes only.

// planesWork tells whether the processor, and the system with it, can do that.
var planesWork = C.planes_work() != 0

const planes = C.planes

// matrices are those for the top byte and for the byte that leaves, a plane each, and for the one that comes in.
type matrices [planes + planes + 2]uint64

func newMatrices(c *Chunker) (m matrices) {
	for k := range planes {
		m[k] = matrix(k, func(bit int) uint64 { return c.mod[1<<bit] &^ (1 << (degree + bit)) })
		m[planes+k] = matrix(k, func(bit int) uint64 { return c.out[1<<bit] })
	}
	for k := range 2 {
		m[2*planes+k] = matrix(k, func(bit int) uint64 { return 1 << bit })
	}
	return m
}

// matrix is that which gives the plane of what a byte adds to a fingerprint, if its bits alone add what of says. The
// processor wants a row of the matrix, which makes one bit of the product, in each byte, that of the highest bit first.
func matrix(plane int, of func(bit int) uint64) (m uint64) {
	for bit := range 8 {
		product := uint8(of(bit) << 3 >> (8 * plane))
		for row := range 8 {
			m |= uint64(product>>row&1) << (8*(7-row) + bit)
		}
	}
	return m
}

// skipPlanes returns an index at or after from with no cut before it. Either one follows within a row of 64 bytes, or fewer
// bytes are left than the shortest block has.
func (c *Chunker) skipPlanes(p []byte, from int) int {
	n := C.skip((*C.uint8_t)(&p[from-windowBytes]), C.size_t(len(p)-from), (*C.uint64_t)(&c.matrices[0]))
	return from + int(n)
}
