//go:build !purego

#include "textflag.h"

// X0 to X3 hold a block; each is a diagonal of the matrix of the standard:
//
//	X0   words 0 5 10 15
//	X1   words 4 9 14 3
//	X2   words 8 13 2 7
//	X3   words 12 1 6 11
//	X4 - X7   the block before the core, which is added to the result
//	X8 X9     scratch

// STEP is d ^= (a + b) <<< n.
#define STEP(a, b, d, n) \
	MOVO  a, X8; \
	PADDD b, X8; \
	MOVO  X8, X9; \
	PSLLL $n, X8; \
	PSRLL $(32-n), X9; \
	PXOR  X8, d; \
	PXOR  X9, d

// DOUBLE is a round over the columns and one over the rows.
#define DOUBLE \
	STEP(X0, X3, X1, 7); \
	STEP(X1, X0, X2, 9); \
	STEP(X2, X1, X3, 13); \
	STEP(X3, X2, X0, 18); \
	PSHUFD $0x93, X1, X1; \
	PSHUFD $0x4e, X2, X2; \
	PSHUFD $0x39, X3, X3; \
	STEP(X0, X1, X3, 7); \
	STEP(X3, X0, X2, 9); \
	STEP(X2, X3, X1, 13); \
	STEP(X1, X2, X0, 18); \
	PSHUFD $0x39, X1, X1; \
	PSHUFD $0x4e, X2, X2; \
	PSHUFD $0x93, X3, X3

// LOAD is the last block at p, BX bytes further.
#define LOAD(p) \
	MOVOU (p)(BX*1), X0; \
	MOVOU 16(p)(BX*1), X1; \
	MOVOU 32(p)(BX*1), X2; \
	MOVOU 48(p)(BX*1), X3

// XOR is one of the blocks at p.
#define XOR(p) \
	MOVOU 0(p), X4; \
	MOVOU 16(p), X5; \
	MOVOU 32(p), X6; \
	MOVOU 48(p), X7; \
	PXOR  X4, X0; \
	PXOR  X5, X1; \
	PXOR  X6, X2; \
	PXOR  X7, X3

// CORE is Salsa20/8, with its result at p.
#define CORE(p) \
	MOVO  X0, X4; \
	MOVO  X1, X5; \
	MOVO  X2, X6; \
	MOVO  X3, X7; \
	DOUBLE; \
	DOUBLE; \
	DOUBLE; \
	DOUBLE; \
	PADDD X4, X0; \
	PADDD X5, X1; \
	PADDD X6, X2; \
	PADDD X7, X3; \
	MOVOU X0, (p); \
	MOVOU X1, 16(p); \
	MOVOU X2, 32(p); \
	MOVOU X3, 48(p)

// func blockMix(out, in *uint32, r int)
TEXT ·blockMix(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ r+16(FP), CX

	// The results of even blocks go to the first half of out, at DI, of odd ones to the second, at DX.
	MOVQ CX, BX
	SHLQ $6, BX
	LEAQ (DI)(BX*1), DX
	SHLQ $1, BX
	SUBQ $64, BX
	LOAD(SI)

loop:
	XOR(SI)
	CORE(DI)
	ADDQ $64, SI
	ADDQ $64, DI
	XOR(SI)
	CORE(DX)
	ADDQ $64, SI
	ADDQ $64, DX
	DECQ CX
	JNZ  loop
	RET

// func blockMixXOR(out, in, with *uint32, r int)
TEXT ·blockMixXOR(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ with+16(FP), R8
	MOVQ r+24(FP), CX
	MOVQ CX, BX
	SHLQ $6, BX
	LEAQ (DI)(BX*1), DX
	SHLQ $1, BX
	SUBQ $64, BX
	LOAD(SI)
	LEAQ (R8)(BX*1), R9
	XOR(R9)

loopXOR:
	XOR(SI)
	XOR(R8)
	CORE(DI)
	ADDQ $64, SI
	ADDQ $64, R8
	ADDQ $64, DI
	XOR(SI)
	XOR(R8)
	CORE(DX)
	ADDQ $64, SI
	ADDQ $64, R8
	ADDQ $64, DX
	DECQ CX
	JNZ  loopXOR
	RET
