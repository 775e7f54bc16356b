//go:build !purego

#include "textflag.h"

// Sixteen messages, one in each 32-bit lane of the registers.
//
//	Z0 - Z7    a to h of the standard
//	Z8 - Z23   the 16 words of the message schedule in work
//	Z24 - Z28  scratch
//	Z31        order of bytes
//	DI         the state: 16 times a, 16 times b and so on
//	SI         where the messages are
//	R10        how far they are done
//	AX         constants
//	R9         scratch
//	CX         blocks left

// ROW reads the block of one message.
#define ROW(lane, w) \
	MOVQ      8*lane(SI), R9; \
	VMOVDQU32 (R9)(R10*1), w

// FOUR turns the blocks of four messages, each four times four words, so that each register has one word of the four in
// each of its four parts.
#define FOUR(p, q, r, s) \
	VPUNPCKLDQ  q, p, Z24; \
	VPUNPCKHDQ  q, p, Z25; \
	VPUNPCKLDQ  s, r, Z26; \
	VPUNPCKHDQ  s, r, Z27; \
	VPUNPCKLQDQ Z26, Z24, p; \
	VPUNPCKHQDQ Z26, Z24, q; \
	VPUNPCKLQDQ Z27, Z25, r; \
	VPUNPCKHQDQ Z27, Z25, s

// SIXTEEN gathers words of four times four messages: those j, 4 + j, 8 + j and 12 + j of all.
#define SIXTEEN(p, q, r, s) \
	VSHUFI32X4 $0x88, q, p, Z24; \
	VSHUFI32X4 $0xdd, q, p, Z25; \
	VSHUFI32X4 $0x88, s, r, Z26; \
	VSHUFI32X4 $0xdd, s, r, Z27; \
	VSHUFI32X4 $0x88, Z26, Z24, p; \
	VSHUFI32X4 $0xdd, Z26, Z24, r; \
	VSHUFI32X4 $0x88, Z27, Z25, q; \
	VSHUFI32X4 $0xdd, Z27, Z25, s; \
	VPSHUFB    Z31, p, p; \
	VPSHUFB    Z31, q, q; \
	VPSHUFB    Z31, r, r; \
	VPSHUFB    Z31, s, s

// ROUND does one round with the word w and the constant at k.
#define ROUND(a, b, c, d, e, f, g, h, w, k) \
	VPADDD.BCST k(AX), w, Z24; \
	VPRORD      $6, e, Z25; \
	VPRORD      $11, e, Z26; \
	VPRORD      $25, e, Z27; \
	VPADDD      Z24, h, h; \
	VPTERNLOGD  $0x96, Z26, Z27, Z25; \
	VMOVDQA32   e, Z28; \
	VPTERNLOGD  $0xca, g, f, Z28; \
	VPADDD      Z25, h, h; \
	VPRORD      $2, a, Z25; \
	VPRORD      $13, a, Z26; \
	VPRORD      $22, a, Z27; \
	VPADDD      Z28, h, h; \
	VPTERNLOGD  $0x96, Z26, Z27, Z25; \
	VMOVDQA32   a, Z28; \
	VPTERNLOGD  $0xe8, c, b, Z28; \
	VPADDD      h, d, d; \
	VPADDD      Z25, h, h; \
	VPADDD      Z28, h, h

// NEXT makes the word 16 rounds after w of it and those 1, 9 and 14 rounds after it.
#define NEXT(w, w1, w9, w14) \
	VPRORD     $7, w1, Z25; \
	VPRORD     $18, w1, Z26; \
	VPSRLD     $3, w1, Z27; \
	VPADDD     w9, w, w; \
	VPTERNLOGD $0x96, Z26, Z27, Z25; \
	VPRORD     $17, w14, Z24; \
	VPRORD     $19, w14, Z26; \
	VPSRLD     $10, w14, Z27; \
	VPADDD     Z25, w, w; \
	VPTERNLOGD $0x96, Z26, Z27, Z24; \
	VPADDD     Z24, w, w

// ROUNDS16 does 16 rounds with the words of a block.
#define ROUNDS16(k) \
	ROUND(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, k); \
	ROUND(Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z9, k+4); \
	ROUND(Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z10, k+8); \
	ROUND(Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11, k+12); \
	ROUND(Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12, k+16); \
	ROUND(Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z13, k+20); \
	ROUND(Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z14, k+24); \
	ROUND(Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15, k+28); \
	ROUND(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16, k+32); \
	ROUND(Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z17, k+36); \
	ROUND(Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z18, k+40); \
	ROUND(Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19, k+44); \
	ROUND(Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20, k+48); \
	ROUND(Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z21, k+52); \
	ROUND(Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z22, k+56); \
	ROUND(Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23, k+60)

// MORE16 does 16 rounds with the next words, each made before it is needed: rounds and words keep different units busy.
#define MORE16(k) \
	NEXT(Z8, Z9, Z17, Z22); \
	ROUND(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, k+0); \
	NEXT(Z9, Z10, Z18, Z23); \
	ROUND(Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z9, k+4); \
	NEXT(Z10, Z11, Z19, Z8); \
	ROUND(Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z10, k+8); \
	NEXT(Z11, Z12, Z20, Z9); \
	ROUND(Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11, k+12); \
	NEXT(Z12, Z13, Z21, Z10); \
	ROUND(Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12, k+16); \
	NEXT(Z13, Z14, Z22, Z11); \
	ROUND(Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z13, k+20); \
	NEXT(Z14, Z15, Z23, Z12); \
	ROUND(Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z14, k+24); \
	NEXT(Z15, Z16, Z8, Z13); \
	ROUND(Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15, k+28); \
	NEXT(Z16, Z17, Z9, Z14); \
	ROUND(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16, k+32); \
	NEXT(Z17, Z18, Z10, Z15); \
	ROUND(Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z17, k+36); \
	NEXT(Z18, Z19, Z11, Z16); \
	ROUND(Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z18, k+40); \
	NEXT(Z19, Z20, Z12, Z17); \
	ROUND(Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19, k+44); \
	NEXT(Z20, Z21, Z13, Z18); \
	ROUND(Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20, k+48); \
	NEXT(Z21, Z22, Z14, Z19); \
	ROUND(Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z21, k+52); \
	NEXT(Z22, Z23, Z15, Z20); \
	ROUND(Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z22, k+56); \
	NEXT(Z23, Z8, Z16, Z21); \
	ROUND(Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23, k+60)

// func blocks16(h *states, p *[16]*byte, n int)
TEXT ·blocks16(SB), NOSPLIT, $0-24
	MOVQ           h+0(FP), DI
	MOVQ           p+8(FP), SI
	MOVQ           n+16(FP), CX
	LEAQ           ·constants(SB), AX
	VBROADCASTI32X4 ·byteOrder(SB), Z31
	XORQ           R10, R10
	VMOVDQU32      (DI), Z0
	VMOVDQU32      64(DI), Z1
	VMOVDQU32      128(DI), Z2
	VMOVDQU32      192(DI), Z3
	VMOVDQU32      256(DI), Z4
	VMOVDQU32      320(DI), Z5
	VMOVDQU32      384(DI), Z6
	VMOVDQU32      448(DI), Z7

loop16:
	ROW(0, Z8)
	ROW(1, Z9)
	ROW(2, Z10)
	ROW(3, Z11)
	ROW(4, Z12)
	ROW(5, Z13)
	ROW(6, Z14)
	ROW(7, Z15)
	ROW(8, Z16)
	ROW(9, Z17)
	ROW(10, Z18)
	ROW(11, Z19)
	ROW(12, Z20)
	ROW(13, Z21)
	ROW(14, Z22)
	ROW(15, Z23)
	FOUR(Z8, Z9, Z10, Z11)
	FOUR(Z12, Z13, Z14, Z15)
	FOUR(Z16, Z17, Z18, Z19)
	FOUR(Z20, Z21, Z22, Z23)
	SIXTEEN(Z8, Z12, Z16, Z20)
	SIXTEEN(Z9, Z13, Z17, Z21)
	SIXTEEN(Z10, Z14, Z18, Z22)
	SIXTEEN(Z11, Z15, Z19, Z23)
	ROUNDS16(0)
	MORE16(64)
	MORE16(128)
	MORE16(192)
	VPADDD    (DI), Z0, Z0
	VPADDD    64(DI), Z1, Z1
	VPADDD    128(DI), Z2, Z2
	VPADDD    192(DI), Z3, Z3
	VPADDD    256(DI), Z4, Z4
	VPADDD    320(DI), Z5, Z5
	VPADDD    384(DI), Z6, Z6
	VPADDD    448(DI), Z7, Z7
	VMOVDQU32 Z0, (DI)
	VMOVDQU32 Z1, 64(DI)
	VMOVDQU32 Z2, 128(DI)
	VMOVDQU32 Z3, 192(DI)
	VMOVDQU32 Z4, 256(DI)
	VMOVDQU32 Z5, 320(DI)
	VMOVDQU32 Z6, 384(DI)
	VMOVDQU32 Z7, 448(DI)
	ADDQ      $64, R10
	DECQ      CX
	JNZ       loop16

	VZEROUPPER
	RET
