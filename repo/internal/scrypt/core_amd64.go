//go:build !purego

package scrypt

const accelerated = true // SSE2 is in every amd64

// blockMix is BlockMix of the standard: 2·r blocks at in become as many at out, which must not overlap.
//
//go:noescape
func blockMix(out, in *uint32, r int)

// blockMixXOR is blockMix of in XOR with.
//
//go:noescape
func blockMixXOR(out, in, with *uint32, r int)
