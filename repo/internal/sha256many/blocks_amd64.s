//go:build !purego

#include "textflag.h"

// Of one message, four registers hold 16 words of the message schedule, and two the state, as
// f e b a and h g d c. The instructions for rounds take the sums of schedule and constants for two rounds
// from the lower half of X0.
//
//	X0        schedule + constants, for either message
//	X1 X2     state of the first message
//	X3 - X6   its schedule
//	X7 X8     state of the second message
//	X9 - X12  its schedule
//	X13       scratch
//	X14       order of bytes
//	AX        constants

// LOAD reads four words of a block.
#define LOAD(p, offset, w) \
	MOVOU  offset(p), w; \
	PSHUFB X14, w

// ROUNDS does four rounds with the words w and the constants of those rounds.
#define ROUNDS(round, w, s, t) \
	MOVOU       4*round(AX), X0; \
	PADDD       w, X0; \
	SHA256RNDS2 X0, s, t; \
	PSHUFD      $0x0e, X0, X0; \
	SHA256RNDS2 X0, t, s

// EXTEND makes the words w16 of what MSG1 has made of them, and the eight words before.
#define EXTEND(w8, w12, w16) \
	MOVO       w12, X13; \
	PALIGNR    $4, w8, X13; \
	PADDD      X13, w16; \
	SHA256MSG2 w12, w16

// The parts of a block for one message, four rounds each; w to z are its schedule. FIRST reads
// the words, MIDDLE makes the next ones of them, LAST needs no more after them.

#define FIRST0(p, s, t, w) \
	LOAD(p, 0, w); \
	ROUNDS(0, w, s, t)

#define FIRST(round, p, s, t, w, x) \
	LOAD(p, 4*round, x); \
	ROUNDS(round, x, s, t); \
	SHA256MSG1 x, w

#define FIRST12(p, s, t, w, x, y, z) \
	LOAD(p, 48, z); \
	ROUNDS(12, z, s, t); \
	EXTEND(y, z, w); \
	SHA256MSG1 z, y

#define MIDDLE(round, s, t, w, x, y, z) \
	ROUNDS(round, w, s, t); \
	EXTEND(z, w, x); \
	SHA256MSG1 w, z

#define LAST(round, s, t, w, x, y, z) \
	ROUNDS(round, w, s, t); \
	EXTEND(z, w, x)

// func blocks(h *state, p *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $0-24
	MOVQ  h+0(FP), DI
	MOVQ  p+8(FP), SI
	MOVQ  n+16(FP), CX
	LEAQ  ·constants(SB), AX
	MOVOU ·byteOrder(SB), X14
	MOVOU (DI), X1
	MOVOU 16(DI), X2

loop1:
	MOVO X1, X9
	MOVO X2, X10
	FIRST0(SI, X1, X2, X3)
	FIRST(4, SI, X1, X2, X3, X4)
	FIRST(8, SI, X1, X2, X4, X5)
	FIRST12(SI, X1, X2, X3, X4, X5, X6)
	MIDDLE(16, X1, X2, X3, X4, X5, X6)
	MIDDLE(20, X1, X2, X4, X5, X6, X3)
	MIDDLE(24, X1, X2, X5, X6, X3, X4)
	MIDDLE(28, X1, X2, X6, X3, X4, X5)
	MIDDLE(32, X1, X2, X3, X4, X5, X6)
	MIDDLE(36, X1, X2, X4, X5, X6, X3)
	MIDDLE(40, X1, X2, X5, X6, X3, X4)
	MIDDLE(44, X1, X2, X6, X3, X4, X5)
	MIDDLE(48, X1, X2, X3, X4, X5, X6)
	LAST(52, X1, X2, X4, X5, X6, X3)
	LAST(56, X1, X2, X5, X6, X3, X4)
	ROUNDS(60, X6, X1, X2)
	PADDD X9, X1
	PADDD X10, X2
	ADDQ  $64, SI
	DECQ  CX
	JNZ   loop1

	MOVOU X1, (DI)
	MOVOU X2, 16(DI)
	RET

// func blocks2(a, b *state, p, q *byte, n int)
TEXT ·blocks2(SB), NOSPLIT, $0-40
	MOVQ  a+0(FP), DI
	MOVQ  b+8(FP), DX
	MOVQ  p+16(FP), SI
	MOVQ  q+24(FP), BX
	MOVQ  n+32(FP), CX
	LEAQ  ·constants(SB), AX
	MOVOU ·byteOrder(SB), X14
	MOVOU (DI), X1
	MOVOU 16(DI), X2
	MOVOU (DX), X7
	MOVOU 16(DX), X8

loop2:
	FIRST0(SI, X1, X2, X3)
	FIRST0(BX, X7, X8, X9)
	FIRST(4, SI, X1, X2, X3, X4)
	FIRST(4, BX, X7, X8, X9, X10)
	FIRST(8, SI, X1, X2, X4, X5)
	FIRST(8, BX, X7, X8, X10, X11)
	FIRST12(SI, X1, X2, X3, X4, X5, X6)
	FIRST12(BX, X7, X8, X9, X10, X11, X12)
	MIDDLE(16, X1, X2, X3, X4, X5, X6)
	MIDDLE(16, X7, X8, X9, X10, X11, X12)
	MIDDLE(20, X1, X2, X4, X5, X6, X3)
	MIDDLE(20, X7, X8, X10, X11, X12, X9)
	MIDDLE(24, X1, X2, X5, X6, X3, X4)
	MIDDLE(24, X7, X8, X11, X12, X9, X10)
	MIDDLE(28, X1, X2, X6, X3, X4, X5)
	MIDDLE(28, X7, X8, X12, X9, X10, X11)
	MIDDLE(32, X1, X2, X3, X4, X5, X6)
	MIDDLE(32, X7, X8, X9, X10, X11, X12)
	MIDDLE(36, X1, X2, X4, X5, X6, X3)
	MIDDLE(36, X7, X8, X10, X11, X12, X9)
	MIDDLE(40, X1, X2, X5, X6, X3, X4)
	MIDDLE(40, X7, X8, X11, X12, X9, X10)
	MIDDLE(44, X1, X2, X6, X3, X4, X5)
	MIDDLE(44, X7, X8, X12, X9, X10, X11)
	MIDDLE(48, X1, X2, X3, X4, X5, X6)
	MIDDLE(48, X7, X8, X9, X10, X11, X12)
	LAST(52, X1, X2, X4, X5, X6, X3)
	LAST(52, X7, X8, X10, X11, X12, X9)
	LAST(56, X1, X2, X5, X6, X3, X4)
	LAST(56, X7, X8, X11, X12, X9, X10)
	ROUNDS(60, X6, X1, X2)
	ROUNDS(60, X12, X7, X8)
	MOVOU (DI), X3
	MOVOU 16(DI), X4
	MOVOU (DX), X9
	MOVOU 16(DX), X10
	PADDD X3, X1
	PADDD X4, X2
	PADDD X9, X7
	PADDD X10, X8
	MOVOU X1, (DI)
	MOVOU X2, 16(DI)
	MOVOU X7, (DX)
	MOVOU X8, 16(DX)
	ADDQ  $64, SI
	ADDQ  $64, BX
	DECQ  CX
	JNZ   loop2
	RET

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// The words of a block are big endian.
DATA ·byteOrder+0x00(SB)/8, $0x0405060700010203
DATA ·byteOrder+0x08(SB)/8, $0x0c0d0e0f08090a0b
GLOBL ·byteOrder(SB), RODATA|NOPTR, $16

// The constants of the rounds: the first 32 bits of the fractions of the cube roots of the first 64
// primes.
DATA ·constants+0x00(SB)/8, $0x71374491428a2f98
DATA ·constants+0x08(SB)/8, $0xe9b5dba5b5c0fbcf
DATA ·constants+0x10(SB)/8, $0x59f111f13956c25b
DATA ·constants+0x18(SB)/8, $0xab1c5ed5923f82a4
DATA ·constants+0x20(SB)/8, $0x12835b01d807aa98
DATA ·constants+0x28(SB)/8, $0x550c7dc3243185be
DATA ·constants+0x30(SB)/8, $0x80deb1fe72be5d74
DATA ·constants+0x38(SB)/8, $0xc19bf1749bdc06a7
DATA ·constants+0x40(SB)/8, $0xefbe4786e49b69c1
DATA ·constants+0x48(SB)/8, $0x240ca1cc0fc19dc6
DATA ·constants+0x50(SB)/8, $0x4a7484aa2de92c6f
DATA ·constants+0x58(SB)/8, $0x76f988da5cb0a9dc
DATA ·constants+0x60(SB)/8, $0xa831c66d983e5152
DATA ·constants+0x68(SB)/8, $0xbf597fc7b00327c8
DATA ·constants+0x70(SB)/8, $0xd5a79147c6e00bf3
DATA ·constants+0x78(SB)/8, $0x1429296706ca6351
DATA ·constants+0x80(SB)/8, $0x2e1b213827b70a85
DATA ·constants+0x88(SB)/8, $0x53380d134d2c6dfc
DATA ·constants+0x90(SB)/8, $0x766a0abb650a7354
DATA ·constants+0x98(SB)/8, $0x92722c8581c2c92e
DATA ·constants+0xa0(SB)/8, $0xa81a664ba2bfe8a1
DATA ·constants+0xa8(SB)/8, $0xc76c51a3c24b8b70
DATA ·constants+0xb0(SB)/8, $0xd6990624d192e819
DATA ·constants+0xb8(SB)/8, $0x106aa070f40e3585
DATA ·constants+0xc0(SB)/8, $0x1e376c0819a4c116
DATA ·constants+0xc8(SB)/8, $0x34b0bcb52748774c
DATA ·constants+0xd0(SB)/8, $0x4ed8aa4a391c0cb3
DATA ·constants+0xd8(SB)/8, $0x682e6ff35b9cca4f
DATA ·constants+0xe0(SB)/8, $0x78a5636f748f82ee
DATA ·constants+0xe8(SB)/8, $0x8cc7020884c87814
DATA ·constants+0xf0(SB)/8, $0xa4506ceb90befffa
DATA ·constants+0xf8(SB)/8, $0xc67178f2bef9a3f7
GLOBL ·constants(SB), RODATA|NOPTR, $256
