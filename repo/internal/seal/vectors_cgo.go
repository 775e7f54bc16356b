//go:build cgo && amd64

package seal

/*
#include <cpuid.h>

#include "aes512.h"
#include "mac512.h"

typedef struct {
	struct schedule aes;
	struct powers mac;
} vector_key;

VECTORS static void prepare(vector_key *k, const uint8_t *aes, const uint8_t *r) {
	expand(&k->aes, aes);
	raise(&k->mac, r);
}

enum pass { SEAL, VERIFY, MAC, CRYPT };

// Two passes are one over so many bytes at a time, which stay in the nearest cache. To do both to the same 256 bytes is slower:
// the processor does not see far enough ahead to have one fill the gaps of the other.
enum { PIECE = 4096 };

// run takes n bytes from in to out, which may be in. The tag is of encrypted bytes: of out to SEAL, else of in. To VERIFY, out
// is the plain bytes to compare with, and what is returned is where the first 256 begin that differ, SIZE_MAX if none do.
VECTORS INLINE size_t run(enum pass pass, const vector_key *k, uint8_t *tag, const uint8_t *half, const uint8_t *iv, const uint8_t *in, uint8_t *out, size_t n) {
	size_t differs = SIZE_MAX, at = 0;
	const uint8_t *text = pass == SEAL ? out : in;
	__m512i count = counters(iv);
	lanes h = zero();
	for (size_t whole = n / 256 * 256, end; at < whole; at = end) {
		end = whole - at < PIECE ? whole : at + PIECE;
		if (pass == SEAL || pass == CRYPT)
			for (size_t i = at; i < end; i += 256) {
				FORGET_KEYS;
				store(out + i, crypt(&k->aes, &count, load(in + i, 256)), 256);
			}
		if (pass != CRYPT)
			for (size_t i = at; i < end; i += 256)
				h = absorb(h, &k->mac, load(text + i, 256));
		if (pass == VERIFY)
			for (size_t i = at; i < end; i += 256) {
				FORGET_KEYS;
				if (differ(crypt(&k->aes, &count, load(in + i, 256)), load(out + i, 256), 256) && i < differs)
					differs = i;
			}
	}
	n -= at;
	if (pass != MAC && n > 0) {
		quad q = crypt(&k->aes, &count, load(in + at, n));
		if (pass != VERIFY)
			store(out + at, q, n);
		else if (differ(q, load(out + at, n), n) && at < differs)
			differs = at;
	}
	if (pass != CRYPT)
		finish(tag, h, &k->mac, text + at, n, half);
	return differs;
}

VECTORS static void seal(const vector_key *k, uint8_t *tag, const uint8_t *half, const uint8_t *iv, const uint8_t *plain, uint8_t *text, size_t n) {
	run(SEAL, k, tag, half, iv, plain, text, n);
}

VECTORS static size_t verify(const vector_key *k, uint8_t *tag, const uint8_t *half, const uint8_t *iv, const uint8_t *text, const uint8_t *plain, size_t n) {
	return run(VERIFY, k, tag, half, iv, text, (uint8_t *)plain, n);
}

VECTORS static void mac(const vector_key *k, uint8_t *tag, const uint8_t *half, const uint8_t *text, size_t n) {
	run(MAC, k, tag, half, half, text, 0, n);
}

VECTORS static void crypt_all(const vector_key *k, const uint8_t *iv, const uint8_t *in, uint8_t *out, size_t n) {
	run(CRYPT, k, 0, 0, iv, in, out, n);
}

// vectors_work tells whether the processor, and the system with it, has what quads.h names. The builtin knows "vaes" since gcc 11.
static int vectors_work(void) {
	unsigned a, b, c, d;
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512ifma") &&
		__builtin_cpu_supports("aes") && __builtin_cpu_supports("bmi2") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VAES);
}

#cgo noescape prepare
#cgo nocallback prepare
#cgo noescape seal
#cgo nocallback seal
#cgo noescape verify
#cgo nocallback verify
#cgo noescape mac
#cgo nocallback mac
#cgo noescape crypt_all
#cgo nocallback crypt_all
*/
import "C"

import "unsafe"

var vectorsWork = C.vectors_work() != 0

// vectorKey is what the passes derive of a Key once.
type vectorKey C.vector_key

func newVectorKey(k *Key) *vectorKey {
	if !vectorsWork {
		return nil
	}
	v := new(vectorKey)
	C.prepare(v.c(), pointer(k.Encrypt[:]), pointer(k.MACR[:]))
	return v
}

func (v *vectorKey) c() *C.vector_key { return (*C.vector_key)(v) }

func pointer(p []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(p)) }

// seal encrypts plain to text and sets mac to the tag of text.
func (v *vectorKey) seal(mac *[macBytes]byte, text, iv, plain []byte, key *[32]byte) {
	C.seal(v.c(), pointer(mac[:]), pointer(key[16:]), pointer(iv), pointer(plain), pointer(text), C.size_t(len(plain)))
}

// verify sets mac to the tag of text, which is as long as plain, and returns where it begins not to be that of plain, or
// what is no offset.
func (v *vectorKey) verify(mac *[macBytes]byte, text, iv, plain []byte, key *[32]byte) (differs uint64) {
	return uint64(C.verify(v.c(), pointer(mac[:]), pointer(key[16:]), pointer(iv), pointer(text), pointer(plain), C.size_t(len(plain))))
}

func (v *vectorKey) sumMAC(mac *[macBytes]byte, text []byte, key *[32]byte) {
	C.mac(v.c(), pointer(mac[:]), pointer(key[16:]), pointer(text), C.size_t(len(text)))
}

// crypt encrypts or decrypts src to dst, which may be src.
func (v *vectorKey) crypt(dst, iv, src []byte) {
	C.crypt_all(v.c(), pointer(iv), pointer(src), pointer(dst), C.size_t(len(src)))
}
