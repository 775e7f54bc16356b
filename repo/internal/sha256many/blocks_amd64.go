//go:build !purego

package sha256many

import "golang.org/x/sys/cpu"

// accelerated tells whether the processor has the instructions that the assembly uses.
var accelerated = detect()

// wide tells whether the processor has what sixteen lanes need, and the system saves these registers.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW

// detect asks for SSSE3 and SSE4.1 (leaf 1, ECX) and SHA (leaf 7, EBX). All of them work on
// registers that every amd64 system saves, so that there is nothing to ask the system.
func detect() bool {
	const (
		ssse3 = 1 << 9
		sse41 = 1 << 19
		sha   = 1 << 29
	)
	last, _, _, _ := cpuid(0, 0)
	if last < 7 {
		return false
	}
	_, _, c1, _ := cpuid(1, 0)
	_, b7, _, _ := cpuid(7, 0)
	return c1&ssse3 != 0 && c1&sse41 != 0 && b7&sha != 0
}

//go:noescape
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// blocks takes n blocks at p, at least one, into h.
//
//go:noescape
func blocks(h *state, p *byte, n int)

// blocks2 takes n blocks at p, at least one, into a, and as many at q into b.
//
//go:noescape
func blocks2(a, b *state, p, q *byte, n int)

// blocks16 takes n blocks, at least one, at each of p into the states.
//
//go:noescape
func blocks16(h *states, p *[lanesMost]*byte, n int)
